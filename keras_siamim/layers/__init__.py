"""Keras layers of the encoders, of projectors, predictors and decoders."""

from keras_siamim.layers.attention import Attention
from keras_siamim.layers.block import Mlp, TransformerBlock
from keras_siamim.layers.convnext_block import ConvNeXtBlock, GlobalResponseNorm
from keras_siamim.layers.decomposed_attention import DecomposedAttention
from keras_siamim.layers.dense import Dense
from keras_siamim.layers.learned_positions import LearnedPositions
from keras_siamim.layers.mlp_head import MlpHead
from keras_siamim.layers.patch_embedding import PatchEmbedding
from keras_siamim.layers.regularization import LayerScale, StochasticDepth
from keras_siamim.layers.relative_attention import RelativeAttention
from keras_siamim.layers.token import Token
from keras_siamim.layers.token_batch_norm import TokenBatchNorm

__all__ = [
    "Attention",
    "ConvNeXtBlock",
    "DecomposedAttention",
    "Dense",
    "GlobalResponseNorm",
    "LayerScale",
    "LearnedPositions",
    "Mlp",
    "MlpHead",
    "PatchEmbedding",
    "RelativeAttention",
    "StochasticDepth",
    "Token",
    "TokenBatchNorm",
    "TransformerBlock",
]
