r"""SSD300 on VOC 2007 + 2012, as in the paper (Table 1; expansion from section 3.6).

    ssd-jax train --config=configs/ssd300_voc.py --workdir=runs/ssd300_voc

Published: 77.2 mAP on VOC2007 test, from VGG16's ImageNet weights.
"""

from ml_collections import ConfigDict

PUBLISHED = "77.2 mAP on VOC2007 test (paper, table 6)"


def get_config() -> ConfigDict:
    """The paper's SSD300, and every field that a config has."""
    config = ConfigDict()

    # ---- the run
    config.metric = "voc07"  # of evaluations: voc07 (11-point), voc (area) or coco (0.50:0.95)
    config.batch_size = 32  # images a step, over all devices of all hosts
    config.steps = 120_000  # parameter updates
    config.epochs = 0.0  # passes over the images, which determine steps; 0 = steps as above
    config.seed = 0  # of weights, order and augmentation
    # Where weights start: "" = from scratch, "run:WORKDIR", or "FORMAT:FILE"
    # (docs/weights.md).
    config.init = "keras:imagenet"
    config.log_every = 50  # steps between two lines of metrics
    config.loggers = "tensorboard"  # and metrics.jsonl; or wandb, mlflow; "" = none
    config.checkpoint_every = 5_000  # steps between two checkpoints
    config.keep_checkpoints = 3  # the latest ones; the best by the metric is kept too
    config.eval_every = 0  # steps between two evaluations; 0 = ten in a run, -1 = never
    config.patience = 0  # evaluations without a higher mAP until it ends; 0 = never early
    config.report = True  # whether an evaluated run ends with a page about its best checkpoint

    # ---- optimiser
    config.optimizer = "sgd"  # as in Caffe; or "adam"
    config.learning_rate = 1e-3
    config.base_batch_size = 0  # batch size of the rate, which scales with batch_size; 0 = fixed
    config.bias_rate = 2.0  # factor on the learning rate of biases, with sgd
    config.schedule = "step"  # or "cosine"
    config.learning_rate_drops = (2 / 3, 5 / 6)  # ÷ 10 at these fractions of the run: 80k, 100k
    config.warmup_steps = 500  # the rate rises from 0; not in the paper, but needed from scratch
    config.momentum = 0.9  # of sgd
    config.weight_decay = 5e-4
    config.no_weight_decay = "*/bias,*/scale"  # parameters without it: biases, batch norm's scales
    config.clip_norm = 0.0  # maximum norm of the gradient; 0 = none
    config.accumulate = 1  # gradient accumulation steps, to need less memory
    config.ema = 0.0  # decay of the averaged parameters for evaluation, like 0.9998; 0 = none
    config.freeze = ""  # parameters that are not trained: patterns like "backbone/conv1_*"
    config.freeze_batch_norm = False  # do not update batch norm's statistics
    # When the loss or gradient is not finite: "stop", or "skip" the update.
    config.on_nonfinite = "stop"
    config.max_skipped = 10  # updates that may be skipped in a run

    # ---- data: docs/data.md has the grammar
    config.data = ConfigDict()
    config.data.train = "tfds:voc/2007:train+validation,tfds:voc/2012:train+validation"
    config.data.eval = "tfds:voc/2007:test"
    config.data.split = 0.8  # share for training, where eval is cut from train
    config.data.classes = ""  # names joined by commas; "" = from the source
    config.data.class_map = ""  # other names, like "dog+puppy=dog,car=": merged, or left out
    config.data.repeat_threshold = 0.0  # share of images below which a class is drawn more often
    config.data.cache = False  # keep the encoded training images in memory, once read
    config.data.max_objects = 64  # maximum number in an image; of more, the largest are kept
    # When an image or its annotation is damaged: "stop", or "skip" the image.
    config.data.on_error = "stop"
    config.data.max_error_fraction = 0.01  # maximum share of skipped images

    # ---- augmentation
    config.augment = ConfigDict()
    config.augment.color = True  # brightness, contrast, saturation, hue
    config.augment.color_strength = 1.0  # factor on the paper's ranges of these
    config.augment.expand_probability = 0.5  # of placing the image on a larger canvas
    config.augment.expand_max_ratio = 4.0  # largest side of the canvas, in image sides
    config.augment.crop = True  # one of the seven crop samplers
    config.augment.crop_probability = 1.0  # of running them for an image
    config.augment.flip = True  # mirror half of the images
    config.augment.vertical_flip = False  # mirror half of the images up and down
    config.augment.quarter_turns = False  # turn images by 0, 90, 180 or 270 degrees
    config.augment.mosaic = 0.0  # probability of four images instead of one
    config.augment.custom = ""  # "MODULE:FUNCTION": called with every image before the crop
    config.augment.plain_start = 0.0  # fraction of the run, at its start, with flips and turns only
    config.augment.plain_end = 0.0  # the same at its end

    # ---- network and its default boxes
    config.model = ConfigDict()
    config.model.backbone = "vgg16"  # or another of BACKBONES in ssd_jax/models/ssd.py
    config.model.image_size = 300  # side of the square input in pixels
    config.model.width = 1.0  # multiplies the channels of every layer
    config.model.batch_norm = False  # batch norm after every convolution
    config.model.separable = False  # separable extra layers and heads, as in SSDLite
    config.model.linear_extras = False  # separable extra layers without a last activation
    # Of the computation: bfloat16 is fastest on GPUs and TPUs, float32 exact everywhere. tf32 is
    # between them: float32, except that NVIDIA GPUs round the factors of products to 10 bits, as
    # PyTorch does by default there. On other devices it is as exact as float32, or nearly.
    config.model.precision = "tf32"
    # One entry a feature map after fc7: 1×1 channels, 3×3 channels, kernel, stride, padding.
    config.model.extra_blocks = (
        (256, 512, 3, 2, 1),
        (128, 256, 3, 2, 1),
        (128, 256, 3, 1, 0),
        (128, 256, 3, 1, 0),
    )
    # One entry a feature map: conv4_3, fc7, then the extra ones.
    config.model.feature_sizes = (38, 19, 10, 5, 3, 1)  # cells a side
    config.model.strides = (8, 16, 32, 64, 100, 300)  # pixels between cells
    config.model.min_sizes = (30, 60, 111, 162, 213, 264)  # side of the small square in pixels
    config.model.max_sizes = (60, 111, 162, 213, 264, 315)  # the large one: sqrt(min · max)
    config.model.aspect_ratios = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))  # and their inverses
    config.model.whole_pixels = True  # sizes are rounded down to whole pixels, as in Caffe
    # Any shapes instead: for each feature map a tuple of (width, height) in pixels; () = as above.
    config.model.shapes = ()
    config.model.clip = False  # default boxes may exceed the image, as in Caffe

    # ---- loss
    config.loss = ConfigDict()
    config.loss.match_iou_threshold = 0.5  # from which a default box is matched to an object
    config.loss.boundary_boxes = True  # train also default boxes that reach beyond the image
    config.loss.negatives_per_positive = 3.0  # hard negatives
    config.loss.min_negatives = 0  # of each image, so that images without objects count
    config.loss.localisation_weight = 1.0  # α
    config.loss.label_smoothing = 0.0  # target probability spread over all classes
    config.loss.confidence = "mining"  # or "focal": all negatives, by focal loss
    config.loss.focal_alpha = 0.25  # weight of positives in focal loss; of negatives: 1 - alpha
    config.loss.focal_gamma = 2.0  # power of 1 - p in focal loss
    # Of the confidence loss of objects: "cat=2,dog=0.5", "balanced" or numbers; "" = equal.
    config.loss.class_weights = ""
    config.loss.localisation = "smooth_l1"  # or "giou", "ciou": with localisation_weight 5

    # ---- detection
    config.detection = ConfigDict()
    config.detection.score_threshold = 0.01
    config.detection.nms_iou_threshold = 0.45  # of non-maximum suppression
    config.detection.boxes_per_class = 400  # that enter non-maximum suppression
    config.detection.detections_per_image = 200
    return config
