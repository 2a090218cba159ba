"""Files, functions, fields and numbers that the documentation names are those of the code."""

import ast
import functools
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

import ssd_jax
from configs import ssd300_voc
from ssd_jax.config.schema import as_config, field_names
from ssd_jax.models.network import build_network
from ssd_jax.training.checkpoints import saved_steps
from tests import tiny
from tests.helpers.all_configs import ALL_CONFIGS, ALL_PUBLISHED
from tests.test_architecture import ALLOWED

ROOT = Path(__file__).parents[1]
FOLDERS = (ROOT, ROOT / "ssd_jax", ROOT / "tests")
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")))
}
RECIPE = PAGES["docs/recipe.md"]
CODE = [
    path
    for folder in ("", "ssd_jax", "configs", "tools", "tests", "tutorials")
    for path in ((ROOT / folder).rglob("*.py") if folder else ROOT.glob("*.py"))
]
# Names of Caffe's, which the recipe compares with ours.
FOREIGN = {"iter_size"}

every_page = pytest.mark.parametrize("page", PAGES)


def prose(page: str) -> str:
    """A page without its code blocks."""
    return re.sub(r"```.*?```", "", PAGES[page], flags=re.DOTALL)


def code_spans(page: str) -> list[str]:
    """The text in backticks in the prose of a page."""
    return re.findall(r"`([^`\n]+)`", prose(page))


def find(file: str) -> list[Path]:
    """The files that a page can mean: by path from the root, `ssd_jax/` or `tests/`, or by name."""
    found = [folder / file for folder in FOLDERS if (folder / file).is_file()]
    return found or [path for path in CODE if path.as_posix().endswith(f"/{file}")]


@functools.cache
def names_defined_in(path: Path) -> set[str]:
    """Functions, classes with their methods and fields, and constants at the top of a file."""
    names = set()

    def add(nodes: list[ast.stmt], prefix: str) -> None:
        for node in nodes:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                add(node.body, f"{prefix}{node.name}.")
            targets = getattr(node, "targets", [getattr(node, "target", None)])
            names.update(prefix + each.id for each in targets if isinstance(each, ast.Name))

    add(ast.parse(path.read_text()).body, "")
    return names


@every_page
def test_links_have_existing_targets(page):
    for link in re.findall(r"\]\(([^)#\s]+)", prose(page)):
        assert "://" in link or ((ROOT / page).parent / link).exists(), link


@every_page
def test_functions_that_are_named_exist(page):
    for file, name in re.findall(r"`([\w/.]+\.py)::([\w.]+)`", PAGES[page]):
        assert any(name in names_defined_in(path) for path in find(file)), f"{file}::{name}"
        assert not name.startswith("test_") or find(file)[0].is_relative_to(ROOT / "tests")


@every_page
def test_files_that_are_named_exist(page):
    for file in code_spans(page):
        if re.fullmatch(r"[\w/.]+\.py", file):
            assert find(file), file
        elif re.fullmatch(r"(ssd_jax|tests|tools|configs|docs)/[\w/.]*", file):
            assert (ROOT / file).exists(), file


@every_page
def test_fields_that_are_named_exist(page):
    # Fields and groups, also those that code blocks use; but not those that a diff adds.
    text = re.sub(r"```diff.*?```", "", PAGES[page], flags=re.DOTALL)
    found = re.findall(r"(?<!ssd_jax\.)\bconfig\.([a-z][\w.]*\w)", text)
    named = set(found) - {"json", "py", "replace"}
    groups = {field.split(".")[0] for field in field_names()}
    assert named <= set(field_names()) | groups


@every_page
def test_identifiers_that_are_named_exist_in_the_code(page):
    words = words_of_the_code()
    for name in code_spans(page):
        if re.fullmatch(r"[A-Za-z_]\w*(\(\))?", name):
            assert name.removesuffix("()") in words | FOREIGN, name


@functools.cache
def words_of_the_code() -> set[str]:
    """All words of the code, apart from this file's."""
    texts = (path.read_text() for path in CODE if path != Path(__file__))
    return {word for text in texts for word in re.findall(r"\w+", text)}


CONTRIBUTING = PAGES["CONTRIBUTING.md"]
WORDS = CONTRIBUTING.split("\n## Words\n")[1].split("| avoid | write |\n")[1]


def words_to_avoid() -> list[str]:
    """The words of the left column of the table in CONTRIBUTING."""
    rows = [line for line in WORDS.splitlines() if line.startswith("| ")]
    return [word.strip() for row in rows for word in row.split("|")[1].split(",")]


@every_page
def test_pages_use_none_of_the_words_to_avoid(page):
    # Names of code, and words of others in links' addresses, are not ours.
    text = re.sub(r"`[^`\n]*`|<!--.*?-->|\]\([^)]*\)", "x", prose(page).replace(WORDS, ""))
    text = " ".join(text.split())
    words = "|".join(map(re.escape, words_to_avoid()))
    found = re.findall(rf"[^.]{{0,40}}\b(?:{words})\b[^.]{{0,20}}", text, flags=re.IGNORECASE)
    assert not found
    assert not re.findall(r"(?:^|[.:|#] )What [^.?|#]*[.|]", text)


# "Wait for it" and the like are correct in code.
ONLY_IN_PAGES = {"for it", "for its"}


def texts_of(source: str) -> Iterator[str]:
    """Docstrings without names of code, other strings, and blocks of comments."""
    docstrings = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            docstring = ast.get_docstring(node, clean=False)
            if docstring is not None:
                docstrings.add(docstring)
                yield re.sub(r"`[^`]*`", "x", docstring)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value if node.value not in docstrings else ""
    block, last = "", 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if token.start[0] != last + 1:
                yield block
                block = ""
            block, last = f"{block} {token.string.lstrip('# ')}", token.start[0]
    yield re.sub(r"`[^`]*`", "x", block)


@pytest.mark.parametrize("folder", ["", "ssd_jax", "configs", "tools", "tutorials"])
def test_code_uses_none_of_the_words_to_avoid(folder):
    words = "|".join(map(re.escape, sorted(set(words_to_avoid()) - ONLY_IN_PAGES)))
    pattern = re.compile(rf"\b(?:{words})\b", flags=re.IGNORECASE)
    for path in (ROOT / folder).rglob("*.py") if folder else ROOT.glob("*.py"):
        source = path.read_text()
        # Parsing takes long, and few files have such words anywhere.
        if pattern.search(re.sub(r'[\s#]+|"\s+f?"', " ", source)):
            for text in texts_of(source):
                assert not pattern.search(" ".join(text.split())), f"{path}: {text}"


def test_names_of_tests_use_none_of_the_words_to_avoid():
    pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, words_to_avoid()))})\b")
    for path in (ROOT / "tests").rglob("*.py"):
        for name in re.findall(r"def (test_\w+)", path.read_text()):
            assert not pattern.search(name.replace("_", " ")), f"{path}: {name}"


def test_every_row_of_the_recipe_names_code_and_a_test():
    tables = RECIPE.split("## Other implementations")[0]
    rows = [line for line in tables.splitlines() if line.startswith("| ") and "::" in line]
    headings = tables.count("| paper / Caffe | we | code | test |")
    assert len([line for line in tables.splitlines() if line.startswith("|")]) == (
        len(rows) + 2 * headings
    )
    for row in rows:
        *_, code, tests, _ = row.split("|")
        assert "::" in code and "::test_" in tests


def test_the_recipe_names_options_that_exist():
    config = ssd300_voc.get_config()
    options = set(re.findall(r"`((?:model|loss|augment|data)\.\w+)", RECIPE))
    assert len(options) > 8
    for option in options:
        group, field = option.split(".")
        assert field in config[group]


@pytest.mark.parametrize("name", ALL_CONFIGS)
def test_every_config_has_its_command_and_result(name):
    file, _, row = name.partition(":")
    path = f"configs/{file}.py"
    text = (ROOT / path).read_text()
    docstring = ast.get_docstring(ast.parse(text))
    assert f"--config={path}" in docstring
    published = ALL_PUBLISHED[name]
    number = re.search(r"\d+\.\d", published)
    assert ("Published: " in docstring and (number is None or number[0] in docstring)) or (
        file in ("ssd_small", "quickstart", "own_images")
    )
    assert not row or row.removesuffix("_inside") in docstring


@pytest.mark.parametrize("name", ALL_CONFIGS)
def test_every_config_is_evaluated_with_the_metric_of_its_publication(name):
    config = ALL_CONFIGS[name]
    published = ALL_PUBLISHED[name]
    of_coco = " AP " in published
    assert (config.metric == "coco") == of_coco
    # COCO's numbers and area from 2010 on; eleven points for VOC2007.
    assert (config.metric == "voc07") == ("VOC2007" in published or not published)


def test_the_page_on_configs_lists_every_config():
    page = (ROOT / "docs" / "configs.md").read_text()
    for name in ALL_CONFIGS:
        assert f"configs/{name.partition(':')[0]}.py" in page


def test_commands_and_parameters_on_the_scaling_page_exist():
    page = (ROOT / "docs" / "scaling.md").read_text()
    blocks = re.findall(r"```\w+\n(.*?)```", page, flags=re.DOTALL)
    given = re.findall(
        r"ssd-jax (?:train|evaluate)(.*?)(?:\n(?! )|$)", "\n".join(blocks), re.DOTALL
    )
    flags = {flag for command in given for flag in re.findall(r"--([\w.]+)", command)}
    fields = {flag.removeprefix("config.") for flag in flags if flag.startswith("config.")}
    processes = {"coordinator", "num_processes", "process_id"}
    assert fields and fields <= set(field_names())
    assert flags == {f"config.{field}" for field in fields} | {"config", "workdir"} | processes
    assert set(re.findall(r"--config=(\w+)", page)) <= set(ALL_CONFIGS)
    assert set(re.findall(r"`config\.(\w+)", page)) <= set(field_names())

    parameters, _ = build_network(as_config(ssd300_voc.get_config()).model, 20).variable_shapes()
    count = sum(leaf.size for leaf in jax.tree.leaves(parameters))
    assert f"{count:,} parameters" in page and f"{4e-6 * count:.0f} MB" in page


@pytest.mark.slow
def test_the_training_loop_of_the_api_page_trains(capsys):
    """The program of the page, with a smaller network, fewer images and two steps."""
    page = PAGES["docs/api.md"]
    block = page.split("## Your own training loop")[1].split("```python")[1].split("```")[0]
    assert len([line for line in block.splitlines() if line.strip()]) <= 25
    program = block
    for shown, tested in (
        ('"ssd_small"', f'"{ROOT / "tests" / "tiny.py"}"'),
        ("shapes:train", "shapes:test[:12]"),
        ("range(100)", "range(2)"),
    ):
        assert program.count(shown) == 1
        program = program.replace(shown, tested)
    names = {}
    exec(compile(program, "docs/api.md", "exec"), names)
    losses = [float(line.split()[1]) for line in capsys.readouterr().out.splitlines()]
    assert len(losses) == 2 and all(0 < loss < 1e3 for loss in losses)
    # Batch norm took part: its statistics are no longer those of a new network.
    new = names["network"].init(seed=0)[1]
    assert jax.tree.leaves(new)
    for before, after in zip(
        jax.tree.leaves(new), jax.tree.leaves(names["batch_stats"]), strict=True
    ):
        assert (before != after).any()


@pytest.mark.slow
def test_the_search_of_the_api_page_searches(tmp_path, monkeypatch):
    """The program of the page, with a smaller network, fewer images, two steps and two trials."""
    import optuna

    class SecondTrial(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            return trial.number == 1

    section = PAGES["docs/api.md"].split("## Search")[1]
    # As in other tests, so that little is compiled anew.
    grid = {"learning_rate": [tiny.get_config().learning_rate], "augment.color": [True, False]}
    program = section.split("```python")[1].split("```")[0]
    for shown, tested in (
        ('"ssd_small"', f'"{ROOT / "tests" / "tiny.py"}"'),
        ("path/to/dataset", "shapes:test[:12]"),
        ('"eval_every=200"', '"data.eval=shapes:test[:6]", "steps=2", "eval_every=1"'),
        ('direction="maximize"', 'direction="maximize", pruner=pruner, sampler=sampler'),
        ("n_trials=20", "n_trials=2"),
    ):
        assert program.count(shown) == 1
        program = program.replace(shown, tested)
    monkeypatch.chdir(tmp_path)
    names = {"pruner": SecondTrial(), "sampler": optuna.samplers.GridSampler(grid)}
    exec(compile(program, "docs/api.md", "exec"), names)
    first, second = names["study"].trials
    assert list(first.intermediate_values) == [1, 2] and list(second.intermediate_values) == [1]
    assert [trial.state.name for trial in (first, second)] == ["COMPLETE", "PRUNED"]
    assert set(names["study"].best_params) == {"learning_rate", "augment.color"}
    # What was pruned is a run like others: it can be detected with, and go on.
    assert saved_steps(tmp_path / "runs/search/1/checkpoints") == [1]


def test_the_api_page_names_all_public_names():
    page = PAGES["docs/api.md"]
    for name in ssd_jax.__all__:
        assert re.search(rf"\b{name}\b", page), name
        assert getattr(ssd_jax, name) is not None


def test_the_reference_describes_public_names_in_their_modules():
    described = re.findall(r"^::: (\S+)$", PAGES["docs/reference.md"], flags=re.MULTILINE)
    assert len(described) == len(set(described))
    for path in described:
        module, _, name = path.rpartition(".")
        assert name in names_defined_in(module_file(module)), path
    assert {path.rpartition(".")[2] for path in described} >= set(ssd_jax.__all__)


def test_readme_is_short_and_its_results_are_on_the_page_of_benchmarks():
    readme, benchmarks = PAGES["README.md"], PAGES["docs/benchmarks.md"]
    assert len(readme.splitlines()) <= 170
    table = readme.split("## Measured results\n")[1].split("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert rows
    for row in rows:
        _, _, result, _ = row.split("|", 3)
        numbers = re.findall(r"\d[\d,.]*", result)
        assert numbers, row
        for number in numbers:
            assert re.search(rf"(?<![\d.,]){re.escape(number)}(?![\d])", benchmarks), number


ARCHITECTURE = PAGES["docs/architecture.md"]


def test_the_table_of_imports_equals_that_of_the_architecture_test():
    rows = re.findall(r"^\| (\w+) \| (.*) \|$", ARCHITECTURE, flags=re.MULTILINE)
    shown = {package: set(names.split(", ")) - {"–"} for package, names in rows}
    assert shown.pop("package") == {"may import"}
    assert shown == ALLOWED and list(shown) == list(ALLOWED)


def test_the_tree_names_every_package():
    tree = ARCHITECTURE.split("```")[1]
    assert re.findall(r"^  (\w+)(?:/|\.py)", tree, flags=re.MULTILINE) == list(ALLOWED)


TRACES = ("From an image file to the loss", "From the network to mAP")


def section_and_stops(title: str) -> tuple[str, list[tuple[str, str, str]]]:
    """A section of the page, and the number, file and function of each stop in it."""
    section = ARCHITECTURE.split(f"## {title}\n")[1].split("\n## ")[0]
    stops = re.findall(r"^(\d+)\. `(\S+)::([\w.]+)`", section, flags=re.MULTILINE)
    return section, stops


@pytest.mark.parametrize(
    "title, most_stops, most_files", [(TRACES[0], 36, 16), (TRACES[1], 20, 10)]
)
def test_the_traces_are_short_and_each_stop_is_used_by_one_before(title, most_stops, most_files):
    section, stops = section_and_stops(title)
    files = {file for _, file, _ in stops}
    assert [int(number) for number, _, _ in stops] == list(range(1, len(stops) + 1))
    assert len(stops) <= most_stops and len(files) <= most_files
    assert f"{len(stops)} stops in {len(files)} files" in section
    # What the training loop and the evaluation call, one after the other.
    source = "training_batches prefetch make_train_step run_detector"
    for _, file, name in stops:
        assert re.search(rf"\b{name.split('.')[-1]}\b", source), name
        source += (ROOT / file).read_text()


def module_file(name: str) -> Path:
    return ROOT / f"{name.replace('.', '/')}.py"


def functions_used(file: str, name: str) -> set[tuple[str, str]]:
    """File and name of each function of another file that a function or class refers to."""
    tree = ast.parse((ROOT / file).read_text())
    modules, functions = {}, {}  # by their names in this file
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ssd_jax"):
            for alias in node.names:
                if module_file(f"{node.module}.{alias.name}").is_file():
                    modules[alias.name] = module_file(f"{node.module}.{alias.name}")
                else:
                    functions[alias.name] = module_file(node.module)
    for part in name.split("."):
        tree = next(node for node in ast.walk(tree) if getattr(node, "name", None) == part)
    used = {
        (functions[node.id], node.id)
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id in functions
    } | {
        (modules[node.value.id], node.attr)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in modules
    }
    return {
        (path.relative_to(ROOT).as_posix(), function)
        for path, function in used
        if function in functions_defined_in(path)
    }


@functools.cache
def functions_defined_in(path: Path) -> set[str]:
    nodes = ast.parse(path.read_text()).body
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("title", TRACES)
def test_the_traces_contain_only_the_named_files(title):
    details = set(re.findall(r"\((`\S+`(?:, `\S+`)*)\)", section_and_stops(TRACES[0])[0]))
    named = {file for files in details for file in re.findall(r"`(ssd_jax/\S+?)`", files)}
    assert len(named) == 16
    _, stops = section_and_stops(title)
    # All files may use errors.py, for the words of messages.
    files = {file for _, file, _ in stops} | named | {"ssd_jax/errors.py"}
    for _, file, name in stops:
        for other, function in functions_used(file, name):
            assert other in files, f"{name} calls {other}::{function}"
