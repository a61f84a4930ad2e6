"""What ships: sane predictions, intervals that widen, calibration that helps, bad rows refused."""

import json
import subprocess
import sys

import msgspec
import numpy as np
import pytest

from suffice.errors import InputError
from suffice.silicon.calibrate import calibrate, groups_of, krige, summary
from suffice.silicon.catalog import catalogue, find_chip
from suffice.silicon.columns import make_table
from suffice.silicon.measured import Record, engine_index, table_of
from suffice.silicon.measurement_files import read_measurements
from suffice.silicon.models import built_in_shapes, find_shape
from suffice.silicon.predict import CHUNK_ROWS, predict
from suffice.silicon.residual import Kernel, ideal, step_seconds, trained

HEADER = (
    "model,chip,engine,batch,input_tokens,output_tokens,tp,dense_format,kv_format,tpot_ms,ttft_ms"
)


def grid(chip="h100", model="llama-3-70b", **columns):
    columns = {"engine": 1, "tp": 4, "dense_bits": 8, "expert_bits": 8, "kv_bits": 8} | columns
    columns = {
        "batch": np.array([1, 4, 16, 64]),
        "input_tokens": 1000,
        "output_tokens": 1000,
    } | columns
    return make_table((find_shape(model),), (find_chip(chip),), **columns)


def test_predictions_are_ordered_and_inside_their_intervals():
    prediction = predict(grid())
    assert (prediction.tpot_low_s < prediction.tpot_s).all()
    assert (prediction.tpot_s < prediction.tpot_high_s).all()
    assert (prediction.ttft_low_s < prediction.ttft_s).all()
    assert (prediction.ttft_s < prediction.ttft_high_s).all()
    assert prediction.tpot_s[3] > prediction.tpot_s[0]


def test_rows_are_independent_of_chunks_and_threads():
    batch = np.resize([1.0, 8, 64], 10_000)
    single_thread, threaded = predict(grid(batch=batch)), predict(grid(batch=batch), threads=2)
    alone = predict(grid(batch=batch[:3]))
    assert np.array_equal(single_thread.tpot_s, threaded.tpot_s)
    assert single_thread.tpot_s[-3:] == pytest.approx(np.roll(alone.tpot_s, -1), rel=1e-5)


def test_single_precision_changes_no_prediction_that_anyone_could_measure():
    models, chips = tuple(built_in_shapes().values()), tuple(catalogue().values())
    model, chip, batch = np.meshgrid(range(len(models)), range(len(chips)), [1.0, 100, 1e4])
    table = make_table(
        models,
        chips,
        model=model.ravel(),
        chip=chip.ravel(),
        batch=batch.ravel(),
        tp=8,
        input_tokens=1e6,
        output_tokens=10,
        expert_bits=4.25,
    )
    coefficients = np.array(trained().tpot.coefficients)
    exact = step_seconds(ideal(table), coefficients)
    fast = step_seconds(ideal(table.single()), coefficients.astype(np.float32))
    assert fast.dtype == np.float32
    assert fast == pytest.approx(exact, rel=1e-5)
    assert predict(table).tpot_s.dtype == float


@pytest.mark.parametrize("unknown", ["tpu-v6e", "mtia-400", "trainium3", "gaudi3"])
def test_the_interval_widens_for_a_chip_never_measured(unknown):
    def width(chip):
        prediction = predict(grid(chip, batch=16, tp=8))
        return float(np.log(prediction.tpot_high_s / prediction.tpot_low_s)[0])

    assert width(unknown) > 1.2 * width("h100")


def test_the_residual_cannot_outvote_physics_anywhere():
    chips = tuple(catalogue().values())
    table = make_table(
        (find_shape("deepseek-v3"),),
        chips,
        chip=np.arange(len(chips)),
        batch=1e4,
        tp=8,
        input_tokens=1e6,
        output_tokens=10,
        dense_bits=8,
        expert_bits=8,
    )
    at, learned = ideal(table), trained()
    physics = step_seconds(at, np.array(learned.tpot.coefficients))
    ratio = np.abs(np.log(predict(table).tpot_s / physics))
    assert (ratio <= 1.2 + 1e-6).all()


def test_shipped_parameters_say_where_they_come_from():
    learned = trained()
    assert "benchmarks.silicon.fit" in learned.made_by
    assert learned.data
    assert len(learned.centres[0]) == len(learned.mean) == len(learned.scale)
    assert learned.tpot.interval.unseen_vendor >= learned.tpot.interval.unseen_chip >= 1


def test_no_feature_is_an_identity_a_date_or_an_order():
    table = table_of(
        [
            Record(
                model="llama-3-70b",
                chip="h100",
                engine="vllm",
                batch=8,
                input_tokens=1e3,
                output_tokens=1e3,
                tp=4,
            ),
            Record(
                model="llama-3.3-70b",
                chip="h100_sxm",
                engine="vllm",
                batch=8,
                input_tokens=1e3,
                output_tokens=1e3,
                tp=4,
            ),
        ]
    )
    prediction = predict(table)
    assert prediction.tpot_s[0] == prediction.tpot_s[1]
    assert predict(table.take(slice(None, None, -1))).tpot_s == pytest.approx(prediction.tpot_s)


def write(path, *rows):
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


def rows_with_factor(factor, batches):
    table = grid(batch=np.array(batches, float))
    prediction = predict(table)
    return [
        f"llama-3-70b,h100,vllm,{b},1000,1000,4,fp8,fp8,{1e3 * t * factor:.6f},"
        f"{1e3 * f * factor:.6f}"
        for b, t, f in zip(batches, prediction.tpot_s, prediction.ttft_s, strict=True)
    ]


def test_three_points_of_a_slower_cluster_correct_the_rest(tmp_path):
    calibration = calibrate([write(tmp_path / "m.csv", *rows_with_factor(1.5, [2, 8, 32]))])
    elsewhere = grid(batch=np.array([4.0, 16, 64]))
    before, after = predict(elsewhere), calibration.predict(elsewhere)
    truth = 1.5 * before.tpot_s
    assert np.abs(after.tpot_s / truth - 1).max() < 0.1
    assert ((after.tpot_low_s < truth) & (truth < after.tpot_high_s)).all()
    widths = [np.log(p.tpot_high_s / p.tpot_low_s) for p in (before, after)]
    assert (widths[1] < widths[0]).all()


def test_other_chips_and_models_are_left_alone(tmp_path):
    calibration = calibrate([write(tmp_path / "m.csv", *rows_with_factor(2.0, [2, 8, 32]))])
    for other in (grid("h200"), grid(model="llama-3-8b"), grid(engine=0)):
        assert np.array_equal(calibration.predict(other).tpot_s, predict(other).tpot_s)


def test_the_summary_judges_points_that_were_left_out(tmp_path):
    (group,) = summary(
        calibrate([write(tmp_path / "m.csv", *rows_with_factor(1.5, [2, 8, 32, 64]))])
    )
    assert (group.model, group.chip, group.points) == ("llama-3-70b", "h100", 4)
    assert group.tpot_ratio == pytest.approx(1.5, rel=1e-3)
    assert group.tpot_error_before == pytest.approx(1 / 3, rel=1e-3)
    assert group.tpot_error_after < 0.1


def test_kriging_returns_the_measured_error_where_there_is_no_noise():
    table = grid(batch=np.array([2.0, 8, 32]))
    kernel = Kernel(
        variances=(0.1, 0.02, 0.02, 0.01, 0.01, 0.01, 0.01, 0.01, 0.02, 0.01, 0.01, 1e-9)
    )
    error = np.array([0.3, 0.1, -0.2])
    moved, sigma = krige(table, error, at=table, kernel=kernel)
    assert moved == pytest.approx(error, abs=1e-4)
    assert (sigma < 1e-3).all()


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("llama-3-70b,h100,vllm,8,1000,1000,4,fp8,fp8,0.02,300", "milliseconds"),
        ("llama-3-70b,h100,vllm,8,1000,1000,4,fp8,fp8,25000,300", "milliseconds"),
        ("llama-3-70b,h100,vllm,8,1000,1000,4,fp8,fp8,20,0.3", "milliseconds"),
        ("llama-3-70b,h100,vllm,0,1000,1000,4,fp8,fp8,20,300", "batch"),
        ("llama-3-70b,h100,vllm,many,1000,1000,4,fp8,fp8,20,300", "batch"),
        ("llama-3-70b,h100,vllm,8,1000,1000,4,fp9,fp8,20,300", "fp9"),
        ("llama-3-71b,h100,vllm,8,1000,1000,4,fp8,fp8,20,300", "llama-3-70b"),
        ("llama-3-70b,h101,vllm,8,1000,1000,4,fp8,fp8,20,300", "h100"),
        ("llama-3-70b,h100,vllm,8,1000,1000,4,fp8,fp8,,", "tpot_ms"),
    ],
)
def test_measurements_that_cannot_be_right_are_refused(tmp_path, row, words):
    with pytest.raises(InputError, match=words):
        calibrate([write(tmp_path / "m.csv", row)])


def test_files_without_rows_or_with_unknown_columns_are_refused(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        read_measurements(tmp_path / "none.csv")
    with pytest.raises(InputError, match="no rows"):
        read_measurements(write(tmp_path / "m.csv"))
    bad = tmp_path / "bad.csv"
    bad.write_text("model,chip,speed\na,b,3\n")
    with pytest.raises(InputError, match="speed"):
        read_measurements(bad)


def test_engine_names_are_read_kindly_and_unknown_ones_are_unknown():
    assert engine_index("vLLM") == 1
    assert engine_index("TensorRT-LLM") == engine_index("trtllm") == 0
    assert engine_index("jetstream") == -1


def test_unrecorded_replicas_are_guessed_and_marked():
    record = Record(
        model="deepseek-r1",
        chip="gb200",
        engine="trtllm",
        batch=1024,
        input_tokens=900,
        output_tokens=900,
        tp=8,
        dense_format="fp8",
        prefill_tp=4,
        decode_replicas=None,
    )
    table = table_of([record, msgspec.structs.replace(record, decode_replicas=4)])
    assert table.guessed_batch.tolist() == [1.0, 0.0]
    assert table.batch[1] == 256
    assert 1 < table.batch[0] < 1024


def test_groups_are_model_chip_and_engine():
    assert groups_of(grid(batch=np.array([1.0])))[0] == ("llama-3-70b", "h100", 1)


def test_importing_the_planner_loads_neither_scipy_nor_scikit_learn():
    code = (
        "import sys, json; import suffice.silicon.plan, suffice.cli.main;"
        "heavy = ('scipy', 'sklearn', 'altair', 'torch', 'rich.markdown', 'rich.traceback');"
        "print(json.dumps([m for m in heavy if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_rows_of_many_models_are_predicted_as_each_model_alone():
    models = (find_shape("llama-3-70b"), find_shape("deepseek-v3"), find_shape("gpt-oss-120b"))
    rng = np.random.default_rng(0)
    n = 3 * CHUNK_ROWS
    table = make_table(
        models,
        (find_chip("h100"), find_chip("mi300x")),
        model=rng.integers(0, 3, n),
        chip=rng.integers(0, 2, n),
        engine=rng.integers(-1, 3, n),
        tp=8,
        batch=rng.integers(1, 500, n),
        input_tokens=1000,
        output_tokens=500,
    )
    together = predict(table, threads=2)
    some = rng.choice(n, 50, replace=False)
    for name, column in vars(together).items():
        alone = [getattr(predict(table.take([row])), name)[0] for row in some]
        assert column[some] == pytest.approx(alone, rel=3e-5, abs=1e-3), name


def test_a_compact_table_has_the_same_physics():
    table = grid(batch=np.array([1.0, 30, 500]), tp=np.array([2.0, 4, 8]), pp=2)
    whole, compact = ideal(table), ideal(table.compact())
    assert len(table.compact()) == 3
    assert len(table.compact().pp) == len(table.compact().model) == 1
    assert np.array_equal(whole.read_s, np.broadcast_to(compact.read_s, 3))
    for name, column in vars(whole.step).items():
        assert np.array_equal(column, np.broadcast_to(getattr(compact.step, name), 3)), name
    assert len(table.take(slice(0, 0)).compact()) == 0
