"""The probe measures something plausible and writes an entry that the catalogue reads."""

import os

import msgspec
import pytest

from suffice.silicon.catalog import chip_entry, find_chip, load_chips
from suffice.silicon.probe import best_seconds, probe_cpu


def test_a_probe_becomes_a_chip_that_can_be_planned_with(tmp_path):
    probe = probe_cpu(copy_bytes=2**22, matrix=128, runs=2)
    assert probe.copy_bytes_per_s > 1e8
    assert probe.matmul_flops_per_s > 1e7
    assert probe.moe_bytes_per_s is None
    path = tmp_path / "chip.toml"
    path.write_text(chip_entry(probe, key="mine"))
    chip = find_chip("mine", load_chips(path))
    assert chip.bandwidth.si == pytest.approx(probe.copy_bytes_per_s, rel=1e-4)
    assert chip.vendor == "probed"
    assert "h100" in load_chips(path)


def test_a_probe_of_a_busy_machine_is_a_chip_too(tmp_path):
    """Its products may be slower than half an operation for each byte that it copies."""
    probe = msgspec.structs.replace(
        probe_cpu(copy_bytes=2**22, matrix=128, runs=2),
        copy_bytes_per_s=2e10,
        matmul_flops_per_s=1e10,
    )
    path = tmp_path / "chip.toml"
    path.write_text(chip_entry(probe, key="mine"))
    assert find_chip("mine", load_chips(path)).bf16.si == pytest.approx(1e10, rel=1e-4)


def test_the_best_run_counts_and_the_first_does_not():
    calls = []
    assert best_seconds(lambda: calls.append(1), runs=3) >= 0
    assert len(calls) == 4


@pytest.mark.torch
def test_kernels_compute_what_torch_computes():
    os.environ.setdefault("TRITON_INTERPRET", "1")
    torch = pytest.importorskip("torch")
    pytest.importorskip("triton")
    from suffice.silicon import kernels

    source = torch.randn(3000)
    assert torch.equal(kernels.copy(source), source)
    a, b = torch.randn(70, 90), torch.randn(90, 50)
    assert torch.allclose(kernels.matmul(a, b), a @ b, atol=1e-3)
    x, weights = torch.randn(3, 80), torch.randn(6, 80, 40)
    chosen = torch.tensor([[0, 5], [2, 3], [4, 1]], dtype=torch.int32)
    share = torch.rand(3, 2)
    wanted = torch.stack(
        [sum(share[t, s] * (x[t] @ weights[chosen[t, s]]) for s in range(2)) for t in range(3)]
    )
    assert torch.allclose(
        kernels.experts(x, weights, chosen=chosen, share=share), wanted, atol=1e-3
    )
