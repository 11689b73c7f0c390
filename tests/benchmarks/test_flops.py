import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import flops
from benchmarks.plain_pytorch import Block, layer_norm
from benchmarks.step.settings import SETTINGS, Setting, batch_of, plain_of

pytestmark = pytest.mark.one_backend("torch")


def counted(function):
    """Return the FLOPs that PyTorch counts while a function runs, without the recomputation of fused attention."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def test_a_block_takes_what_pytorch_counts():
    x = torch.zeros(3, 7, 16)
    assert 3 * flops.block(7, 16) == counted(lambda: Block(16, 2, layer_norm)(x))


def test_a_step_takes_what_pytorch_counts():
    setting = Setting("tiny", 16, 64, 2, 32, 2)
    step, batch = plain_of(setting), batch_of("SiameseIM", setting)
    total = counted(lambda: step({name: torch.tensor(array) for name, array in batch.items()}))
    masked = setting.patches - setting.visible("SiameseIM")
    unread = flops.product(masked, 3 * 16**2, 192)  # the plain step embeds masked patches as well
    unread += 3 * flops.product(1 + setting.visible("SiameseIM"), 32, 32)  # and has predictions of visible tokens
    assert flops.of_step("SiameseIM", setting) == total - setting.batch * unread


def test_the_step_of_vit_base_is_dominated_by_its_blocks():
    setting = SETTINGS["base16-224"]
    tokens = 3 * (14 * 79 + 4 * 275) + 14 * 197
    blocks = tokens * flops.product(1, 768, 12 * 768)
    assert 1 < flops.of_step("SiameseIM", setting) / setting.batch / blocks < 1.15
