"""The PyTorch peers of benchmarks/peers.py, each a process: dense, and SparseProp.

`python benchmarks/peer_torch.py PEER SETTINGS`, in an environment with PyTorch.

Traps of SparseProp 0.1.14, which are the reason for what is done here and in `peers`:
- its setup.py calls the `pip` and the `python3` on the PATH, whatever environment it is built for;
- it neither makes zeros nor takes a mask: kernels must hold them, more than 80 %, before it looks;
- it keeps what is fastest in one try of each, the first call included, so that layers of one shape
  are replaced here and left dense there, and another run replaces others;
- strides are 1 or 2; dilation, groups and padding by name are ignored without a word;
- with `vectorizing_over_on` it reads tensors as if they were contiguous, whatever their strides:
  in a net with `channels_last` its outputs are wrong. So outputs and gradients are checked first.
"""

import copy
import importlib
import importlib.metadata
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import nn
from torch.nn import functional

from benchmarks.peer_process import Trainer, lines, serve

IMAGE, CLASSES = (3, 32, 32), 100
BLOCKS = {"resnet20": 3, "resnet32": 5}  # in each of three stages


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution where shapes change."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if inputs != outputs or stride > 1:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """The net of `apps.models` of the same name: images (batch, 3, 32, 32) in, logits out."""

    def __init__(self, name: str, width: float):
        super().__init__()
        channels = [max(8, 8 * round(count * width / 8)) for count in (16, 32, 64)]
        self.stem = nn.Conv2d(IMAGE[0], channels[0], 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels[0])
        blocks, inputs = [], channels[0]
        for stage, outputs in enumerate(channels):
            for index in range(BLOCKS[name]):
                blocks.append(Block(inputs, outputs, 2 if stage and not index else 1))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(inputs, CLASSES)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(functional.relu(self.norm(self.stem(x))))
        return self.classifier(x.mean((2, 3)))


def pruned(model: nn.Module, sparsity: float) -> nn.Module:
    """The model with random zeros in its blocks, but for shortcuts: SparseProp makes no zeros."""
    from torch.nn.utils import prune

    for block in model.blocks:
        for layer in (block.conv1, block.conv2):
            prune.random_unstructured(layer, "weight", sparsity)
            prune.remove(layer, "weight")
    return model


def sparseprop(model: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
    """The model with SparseProp's modules in place of those it finds slower."""
    from sparseprop.utils import swap_modules_with_sparse

    return swap_modules_with_sparse(model, input_shape)


def macs(model: nn.Module) -> int:
    """Multiplications of kernels with one image."""
    counted = []

    def count(module: Any, inputs: Any, output: torch.Tensor) -> None:
        counted.append(module.weight.numel() * output.numel() // output.shape[1])

    kernels = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    hooks = [module.register_forward_hook(count) for module in kernels]
    with torch.no_grad():
        copy.deepcopy(model).eval()(torch.zeros(1, *IMAGE))
    for hook in hooks:
        hook.remove()
    return sum(counted)


def check_equal(model: nn.Module, dense: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    """Raises RuntimeError if a model's logits or gradients are not those of the dense one."""

    def computed(net: nn.Module) -> dict[str, torch.Tensor]:
        net = copy.deepcopy(net).eval()
        logits = net(x)
        functional.cross_entropy(logits, y).backward()
        # All layers have a part in the gradient of the first.
        return {"logits": logits.detach(), "gradient of the stem": net.stem.weight.grad}

    found = computed(model)
    for what, expected in computed(dense).items():
        error = float((found[what] - expected).abs().max() / expected.abs().max())
        if not error < 1e-3:
            raise RuntimeError(f"{what}: off from dense PyTorch's by {error:.2g} of the largest")


def build(peer: str, settings: dict[str, Any]) -> Trainer:
    """The trainer of a peer, "pytorch" or "sparseprop"."""
    torch.manual_seed(0)
    model: nn.Module = ResNet(settings["model"], settings["width"])
    shape = (settings["batch_size"], *IMAGE)
    x, y = torch.randn(shape), torch.randint(CLASSES, shape[:1])
    facts: dict[str, Any] = {
        "weights": sum(parameter.numel() for parameter in model.parameters()),
        "macs": macs(model),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES[peer]},
        "lines": lines(*ADDED[peer]),
    }
    if peer == "sparseprop":
        dense = pruned(model, settings["sparsity"])
        model = sparseprop(dense, shape)
        check_equal(model, dense, x[:16], y[:16])  # few: they count in the peak of memory
        facts["skipping"] = sum(hasattr(module, "W_idx") for module in model.modules())
        facts["sparse_kernels"] = 2 * len(model.blocks)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)  # as step_time has it
    model.train()

    def step() -> float:
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return Trainer(step, facts)


PACKAGES = {"pytorch": ("torch",), "sparseprop": ("torch", "sparseprop")}
# What a user adds to a plain training script.
ADDED: dict[str, tuple[Callable, ...]] = {"pytorch": (), "sparseprop": (pruned, sparseprop)}


if __name__ == "__main__":
    for package in PACKAGES[sys.argv[1]]:
        importlib.import_module(package)
    serve(lambda: build(sys.argv[1], json.loads(sys.argv[2])))
