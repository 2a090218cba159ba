// Lets the search work on pages that are opened from disk: browsers refuse workers there, so the
// worker's script runs in a hidden frame. Material for MkDocs knows such a stand-in by this name.
window.IFrameWorker = class extends EventTarget {
  constructor(url) {
    super();
    this.frame = document.createElement("iframe");
    this.frame.hidden = true;
    document.body.append(this.frame);
    const inside = this.frame.contentWindow;
    window.addEventListener("message", (event) => {
      if (event.source === inside) {
        this.dispatchEvent(new MessageEvent("message", { data: event.data }));
      }
    });
    inside.document.open();
    inside.document.write(
      `<body><script>postMessage = (data) => parent.postMessage(data, "*")</script>
       <script src="${url}"></script></body>`,
    );
    inside.document.close();
    this.loaded = new Promise((resolve) => {
      inside.addEventListener("load", resolve);
    });
  }

  postMessage(data) {
    this.loaded.then(() => {
      this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data }));
    });
  }

  terminate() {
    this.frame.remove();
  }
};
if (location.protocol === "file:") {
  window.Worker = window.IFrameWorker;
}
