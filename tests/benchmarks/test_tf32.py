import pytest
import torch

from haan.methods.parts import exact_products
from tests.benchmarks.tf32 import Tf32Products, rounded


@pytest.mark.parametrize(
    ("number", "nearest"),
    [
        (1.0, 1.0),
        (1 + 2**-10, 1 + 2**-10),
        (1 + 2**-11, 1 + 2**-10),  # a tie goes away from zero
        (-1 - 2**-11, -1 - 2**-10),
        (1 + 2**-12, 1.0),
        (2 - 2**-12, 2.0),  # into the next power of two
        (0.0, 0.0),
    ],
)
def test_ten_bits_are_kept(number, nearest):
    assert rounded(torch.tensor([number])).item() == nearest


def test_products_are_rounded_forward_and_backward_and_exact_ones_are_not():
    draw = torch.Generator().manual_seed(0)
    a, b = torch.randn(5, 7, generator=draw), torch.randn(7, 3, generator=draw, requires_grad=True)
    with Tf32Products() as mode:
        product = a @ b
        product.sum().backward()
        with exact_products():
            exact = a @ b
    assert torch.equal(product, rounded(a) @ rounded(b.detach()))
    assert torch.equal(b.grad, rounded(a).T @ torch.ones(5, 3))
    assert torch.equal(exact, a @ b) and not torch.equal(exact, product)
    assert mode.count == 2
    assert torch.get_float32_matmul_precision() == "highest"
