"""Who takes what, and what is told to whom."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anychannel.data import Split, load_dataset
from anychannel.evaluation import Evaluation, evaluate
from anychannel.nn.channel_sampling import Part, create_sampler
from anychannel.training.step_parts import assign_channels
from anychannel.utils.processes import ProcessError, Share, add_up, gather_rows, leave, main_first, on_main, share
from tests.helpers.image_files import age, bright_halves, write_class_folders
from tests.helpers.opened_files import count_opened
from tests.helpers.training import lacking, make_model, make_split


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("total", [0, 1, 4, 17])
def test_every_item_is_taken_once_and_counted_right(count, total):
    shares = [Share(index, count) for index in range(count)]
    assert sorted(row for own in shares for row in own.rows(total)) == list(range(total))
    for own in shares:
        for position in range(total + 1):
            assert own.before(position) == sum(row < position for row in own.rows(total))


def test_a_share_of_nobody_is_refused():
    with pytest.raises(ValueError, match=r"one of 0 .. count - 1, got index 2 of 2"):
        Share(2, 2)


@pytest.mark.parametrize("sampler", ["full", "dropout", "uniform_size", "sandwich", "split"])
@pytest.mark.parametrize("count", [2, 3])
def test_the_processes_parts_together_are_the_batchs_parts(sampler, count):
    options = {"dropout": {"parts": 7}, "uniform_size": {"parts": 7}, "split": {"ranges": 3}}.get(sampler, {})
    parts = create_sampler(sampler, 4, **options)(13, torch.Generator().manual_seed(3))
    shown = [[] for _ in parts]
    for own in (Share(index, count) for index in range(count)):
        rows = torch.from_numpy(own.rows(13))
        mine = assign_channels(parts, None, own)
        assert [part.subset for part in mine.parts] == [part.subset for part in parts]
        for i, part in enumerate(mine.parts):
            shown[i] += rows[mine.images[part.start : part.stop]].tolist()
    assert [sorted(images) for images in shown] == [list(range(part.start, part.stop)) for part in parts]


def test_a_process_without_an_image_is_an_error_in_every_process():
    for index in range(3):
        with pytest.raises(ValueError, match="2 shown images are too few for 3 processes: process 2 has none; raise"):
            assign_channels([Part((0,), 0, 2)], None, Share(index, 3))


def test_alone_nothing_is_exchanged():
    table = np.arange(6.0).reshape(3, 2)
    assert share() == Share(0, 1)
    assert gather_rows(table, 3, share()) is table
    assert on_main(lambda: 5) == main_first(lambda: 5) == 5
    assert add_up(torch.tensor([2.0])).item() == 2
    assert leave().is_main


def gathered(totals):
    whole = {total: np.random.default_rng(total).normal(size=(total, 3)).astype(np.float32) for total in totals}
    own = share()
    same = [np.array_equal(gather_rows(table[own.rows(n)], n, own), table) for n, table in whole.items()]
    return all(same), add_up(torch.tensor([own.index + 1.0])).item()


def test_rows_come_back_whole_and_in_order(pair, trio):
    assert pair.run(gathered, range(18)) == [(True, 3.0)] * 2
    assert trio.run(gathered, range(18)) == [(True, 6.0)] * 3


def too_few_rows():
    gather_rows(np.zeros((1, 2)), 7, share())


def test_missing_results_are_noticed_before_anything_is_sent(pair):
    answers = pair.attempt(too_few_rows)
    assert "process 0 of 2 takes 4 of 7 rows, got 1 results" in answers[0][1]
    assert "process 1 of 2 takes 3 of 7 rows, got 1 results" in answers[1][1]


def evaluated(totals) -> list[Evaluation]:
    model, images = make_model("completion").eval(), make_split(17, 5)
    return [
        evaluate(model, Split(images.images[:n], images.labels[:n], images.paths[:n]), batch_size=4, distributed=True)
        for n in totals
    ]


def test_evaluation_over_processes_equals_one_process(pair, trio):
    totals = (1, 2, 3, 4, 6, 7, 17)
    alone = evaluated(totals)
    for team in (pair, trio):
        for results in team.run(evaluated, totals):
            for one, several in zip(alone, results, strict=True):
                assert several.probabilities.keys() == one.probabilities.keys()
                for key, table in one.probabilities.items():
                    np.testing.assert_allclose(several.probabilities[key], table, rtol=1e-5, atol=1e-6)
                    for figure in ("n", "accuracy", "confusion"):
                        assert several.subsets[key][figure] == one.subsets[key][figure]


def refused(subsets):
    model = make_model("masked").eval()
    model.stem.trained = (0, 1, 2)
    return evaluate(model, make_split(1, 0), subsets=subsets, distributed=True).subsets["R"]


def test_a_refused_subset_is_recorded_and_a_named_one_is_an_error_in_every_process(pair):
    first, second = pair.run(refused, None)
    assert first == second
    assert "was trained on" in first["refused"]
    for good, answer in pair.attempt(refused, ["R"]):
        assert not good
        assert "ChannelError: the masked stem was trained on" in answer


def fail_on(index):
    if share().index == index:
        raise OSError("the disk is full")
    return share().index


def tell(kind, index):
    try:
        return {"first": main_first, "main": on_main}[kind](lambda: fail_on(index))
    except (OSError, ProcessError) as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize(("kind", "index"), [("first", 0), ("first", 1), ("main", 0)])
def test_an_error_in_one_process_stops_all_with_its_message(kind, index, pair):
    expected = [f"ProcessError: process {index} stopped: the disk is full"] * 2
    expected[index] = "OSError: the disk is full"
    assert pair.run(tell, kind, index) == expected
    assert pair.run(tell, "first", 7) == [0, 1]
    assert pair.run(tell, "main", 7) == [0, 0]


def build(folder, cache):
    with count_opened() as opened:
        data = main_first(lambda: load_dataset(folder, channels="R,G,B", cache_dir=cache))
    return len(opened), data.fingerprint


def test_images_are_decoded_once_for_all_processes(pair, tmp_path):
    photos = tmp_path / "photos"
    write_class_folders(
        photos, {"train": 3, "val": 3, "test": 3}, ["left", "right"], bright_halves(np.random.default_rng(0), 8, 8)
    )
    age(photos)
    results = pair.run(build, photos, tmp_path / "cache")
    assert [opened for opened, _ in results] == [18, 0]
    assert results[0][1] == results[1][1]


@pytest.mark.parametrize("n", [1, 5, 12])
def test_several_processes_measure_images_that_lack_channels_as_one_does(n, trio):
    """Of few images most processes have none of a subset; masked refuses the others for any that have one."""
    images = lacking(n, 4, np.nan)
    for stem in ("completion", "masked"):
        one = measured_in_processes(stem, images, distributed=False)
        for found in trio.run(measured_in_processes, stem, images):
            assert found.subsets.keys() == one.subsets.keys()
            for key, table in one.probabilities.items():
                np.testing.assert_allclose(found.probabilities[key], table, atol=1e-6)
            assert found.probabilities.keys() == one.probabilities.keys()


def measured_in_processes(stem, images, *, distributed=True):
    model = make_model(stem)
    if stem == "masked":
        model.stem.trained = (0, 1, 2)
    return evaluate(model.eval(), images, batch_size=2, distributed=distributed)
