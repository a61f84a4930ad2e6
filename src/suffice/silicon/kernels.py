"""Triton kernels of the probe: copy, dense product, and a decode step through top-k experts.

Written once for every vendor's Triton backend. On a machine without a GPU they run in Triton's
interpreter (TRITON_INTERPRET=1), which checks what they compute, not how fast. Needs the extra
`train`.
"""

# mypy: ignore-errors
import torch
import triton
import triton.language as tl

from suffice.silicon.catalog import ChipProbe, today

BLOCK = 1024
TILE = 64


@triton.jit
def copy_kernel(source, target, count, BLOCK: tl.constexpr):
    """Copy `count` numbers, one block a program."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(target + at, tl.load(source + at, mask=at < count), mask=at < count)


@triton.jit
def matmul_kernel(a, b, out, m, n, k, TILE: tl.constexpr):
    """Multiply row-major (m, k) by (k, n), one tile of the result a program."""
    rows = tl.program_id(0) * TILE + tl.arange(0, TILE)
    columns = tl.program_id(1) * TILE + tl.arange(0, TILE)
    total = tl.zeros((TILE, TILE), dtype=tl.float32)
    for start in range(0, k, TILE):
        inner = start + tl.arange(0, TILE)
        left = tl.load(
            a + rows[:, None] * k + inner[None, :],
            mask=(rows[:, None] < m) & (inner[None, :] < k),
            other=0.0,
        )
        right = tl.load(
            b + inner[:, None] * n + columns[None, :],
            mask=(inner[:, None] < k) & (columns[None, :] < n),
            other=0.0,
        )
        total += tl.dot(left, right)
    mask = (rows[:, None] < m) & (columns[None, :] < n)
    tl.store(out + rows[:, None] * n + columns[None, :], total.to(out.dtype.element_ty), mask=mask)


@triton.jit
def experts_kernel(
    x, weights, chosen, share, out, hidden, width, ACTIVE: tl.constexpr, TILE: tl.constexpr
):
    """One token through its `ACTIVE` experts, weighted: out[t] = sum_e share * x[t] @ weights[e].

    `weights` is (experts, hidden, width); a program makes one tile of one token's output.
    """
    token = tl.program_id(0)
    columns = tl.program_id(1) * TILE + tl.arange(0, TILE)
    total = tl.zeros((TILE,), dtype=tl.float32)
    for slot in range(ACTIVE):
        expert = tl.load(chosen + token * ACTIVE + slot)
        part = tl.zeros((TILE,), dtype=tl.float32)
        for start in range(0, hidden, TILE):
            inner = start + tl.arange(0, TILE)
            value = tl.load(x + token * hidden + inner, mask=inner < hidden, other=0.0).to(
                tl.float32
            )
            place = weights + (expert * hidden + inner[:, None]) * width + columns[None, :]
            block = tl.load(
                place, mask=(inner[:, None] < hidden) & (columns[None, :] < width), other=0.0
            )
            part += tl.sum(value[:, None] * block.to(tl.float32), axis=0)
        total += part * tl.load(share + token * ACTIVE + slot).to(tl.float32)
    tl.store(out + token * width + columns, total.to(out.dtype.element_ty), mask=columns < width)


def copy(source: torch.Tensor) -> torch.Tensor:
    """Copy a tensor with the kernel."""
    target = torch.empty_like(source)
    copy_kernel[(triton.cdiv(source.numel(), BLOCK),)](source, target, source.numel(), BLOCK=BLOCK)
    return target


def matmul(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Multiply two contiguous matrices with the kernel."""
    (m, k), n = a.shape, b.shape[1]
    out = torch.empty((m, n), dtype=a.dtype, device=a.device)
    matmul_kernel[(triton.cdiv(m, TILE), triton.cdiv(n, TILE))](a, b, out, m, n, k, TILE=TILE)
    return out


def experts(
    x: torch.Tensor, weights: torch.Tensor, *, chosen: torch.Tensor, share: torch.Tensor
) -> torch.Tensor:
    """Send tokens (t, hidden) through chosen experts (t, k) of weights (experts, hidden, width)."""
    tokens, hidden = x.shape
    width = weights.shape[2]
    out = torch.empty((tokens, width), dtype=x.dtype, device=x.device)
    experts_kernel[(tokens, triton.cdiv(width, TILE))](
        x, weights, chosen, share, out, hidden, width, ACTIVE=chosen.shape[1], TILE=TILE
    )
    return out


def gpu_available() -> bool:
    """Whether torch sees an accelerator that Triton can use."""
    return torch.cuda.is_available()


def probe_gpu(
    *, copy_bytes: int = 2**31, matrix: int = 8192, count: int = 64, active: int = 4
) -> ChipProbe:
    """Measure copy bandwidth, dense products and top-k expert reads on the current GPU."""
    device = torch.device("cuda")
    source = torch.ones(copy_bytes // 2, dtype=torch.bfloat16, device=device)
    copy_s = triton.testing.do_bench(lambda: copy(source)) / 1e3
    square = torch.randn((matrix, matrix), dtype=torch.bfloat16, device=device)
    product_s = (
        min(
            triton.testing.do_bench(lambda: matmul(square, square)),
            triton.testing.do_bench(lambda: square @ square),
        )
        / 1e3
    )
    x = torch.randn((1, 4096), dtype=torch.bfloat16, device=device)
    weights = torch.randn((count, 4096, 2048), dtype=torch.bfloat16, device=device)
    chosen = torch.arange(active, device=device, dtype=torch.int32)[None]
    share = torch.full((1, active), 1 / active, device=device)
    moe_s = triton.testing.do_bench(lambda: experts(x, weights, chosen=chosen, share=share)) / 1e3
    facts = torch.cuda.get_device_properties(device)
    return ChipProbe(
        device=facts.name,
        memory_bytes=float(facts.total_memory),
        copy_bytes_per_s=2 * source.nbytes / copy_s,
        matmul_flops_per_s=2.0 * matrix**3 / product_s,
        matmul_dtype="bf16",
        date=today(),
        moe_bytes_per_s=active * 4096 * 2048 * 2 / moe_s,
        kernels="Triton",
    )
