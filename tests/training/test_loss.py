from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from anychannel.models import create_model
from anychannel.nn.channel_sampling import Part
from anychannel.training import fit
from anychannel.training.loss import find_teacher, own_teacher_rows, training_loss
from anychannel.training.metrics import count_answers
from anychannel.training.step_parts import StepParts, assign_channels
from anychannel.utils.processes import Share
from tests.helpers.training import SETTINGS, make_model, states_equal

FULL = (0, 1, 2)


def test_each_reduced_row_finds_the_full_row_of_its_image():
    parts = [Part((0,), 2, 4), Part(FULL, 0, 3), Part((1, 2), 0, 2)]
    assert own_teacher_rows(assign_channels(parts, None, Share()), FULL).tolist() == [4, -1, -1, -1, -1, 2, 3]


def test_the_loss_is_its_formula_image_by_image():
    logits, teacher, targets = torch.randn(5, 4), torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])
    taught = torch.tensor([True, False, True, True, False])
    settings = replace(SETTINGS, distill=0.3, distill_temperature=4.0, label_smoothing=0.1)
    got = training_loss(logits, targets, teacher, taught, settings)
    expected = []
    for row in range(5):
        entropy = F.cross_entropy(logits[row], targets[row], label_smoothing=0.1)
        p, q = torch.softmax(teacher[row] / 4, 0), torch.softmax(logits[row] / 4, 0)
        divergence = 16 * sum(p[k] * torch.log(p[k] / q[k]) for k in range(4))
        expected.append(0.7 * entropy + 0.3 * divergence if taught[row] else entropy)
    torch.testing.assert_close(got, torch.stack(expected).mean())


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.0, 2.0, 0.25])])
def test_the_loss_of_mixed_images_is_that_of_both_labels_in_their_shares(weights):
    logits, first, second = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0]), torch.tensor([1, 1, 0, 2, 3])
    settings = replace(SETTINGS, label_smoothing=0.1)
    mixed = 0.3 * F.one_hot(first, 4) + 0.7 * F.one_hot(second, 4)
    got = training_loss(logits, mixed, None, None, settings, weights)
    of_first, of_second = (training_loss(logits, each, None, None, settings, weights) for each in (first, second))
    torch.testing.assert_close(got, 0.3 * of_first + 0.7 * of_second)
    whole = training_loss(logits, F.one_hot(first, 4).float(), None, None, settings, weights)
    torch.testing.assert_close(whole, of_first)
    counts = count_answers(got, logits, mixed)
    assert counts[1:].tolist() == [(logits.argmax(1) == mixed.argmax(1)).sum(), 5]


def test_the_teacher_gets_no_gradient_and_an_equal_student_no_divergence():
    logits = torch.randn(3, 4, requires_grad=True)
    targets, taught = torch.tensor([0, 1, 2]), torch.ones(3, dtype=torch.bool)
    teacher = logits.detach().clone().requires_grad_()
    loss = training_loss(logits, targets, teacher, taught, replace(SETTINGS, distill=1.0, label_smoothing=0.0))
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    loss.backward()
    assert teacher.grad is None


@pytest.mark.parametrize("with_teacher", [True, False])
def test_distillation_changes_what_is_learned(with_teacher, train, val):
    teacher = make_model(seed=3) if with_teacher else None
    settings = replace(SETTINGS, epochs=1, sampler="split", sampler_options={"paired": True})
    plain, taught = make_model(), make_model()
    fit(plain, train, val, settings)
    fit(taught, train, val, replace(settings, distill=0.5), teacher=teacher)
    assert not states_equal(plain.state_dict(), taught.state_dict())


def test_a_teacher_for_other_channels_is_refused(train, val):
    teacher = create_model("compact_k7", channels="X,Y,Z", num_classes=4, model_options={"width": 32})
    with pytest.raises(ValueError, match=r"the teacher's channels are .'X', 'Y', 'Z'.*the student lacks X, Y, Z"):
        fit(make_model(), train, val, replace(SETTINGS, distill=0.5), teacher=teacher)


@pytest.mark.parametrize("sampler", ["full", "dropout", "split"])
def test_nothing_to_learn_from_is_refused(sampler, train, val):
    with pytest.raises(ValueError, match=f"sampler '{sampler}' shows no image twice; use sampler 'sandwich'"):
        fit(make_model(), train, val, replace(SETTINGS, sampler=sampler, distill=0.5))


PARTS = [Part(FULL, 0, 4), Part((0, 2), 4, 6), Part((1,), 6, 8), Part((0, 2), 8, 9)]


def dedicated(names, seed=5):
    torch.manual_seed(seed)
    return create_model("compact_k7", channels=names, num_classes=4, model_options={"width": 32}, stem="static").eval()


DISTILL = replace(SETTINGS, distill=1)


def test_a_dedicated_teacher_teaches_what_is_shown_in_its_channels():
    student, teacher, images = make_model(), dedicated("B,R"), torch.rand(9, 3, 16, 16)
    rows = assign_channels(PARTS, None, Share())
    answers, taught = find_teacher(teacher, images, torch.randn(9, 4), rows, student.channels, DISTILL)
    assert taught.tolist() == [False] * 4 + [True] * 2 + [False] * 2 + [True]
    torch.testing.assert_close(answers[taught], teacher(images[[4, 5, 8]][:, [2, 0]]))
    places = torch.tensor([3, 7, 0, 2, 5, 1, 8, 6, 4])
    rows = StepParts(PARTS, places, torch.tensor([True] * 5 + [False] * 4))
    answers, again = find_teacher(teacher, images, torch.randn(9, 4), rows, student.channels, DISTILL)
    assert torch.equal(again, taught)
    torch.testing.assert_close(answers[again], teacher(images[[5, 1, 4]][:, [2, 0]]))


@pytest.mark.parametrize("complete", [[True] * 9, [True] * 5 + [False] * 4])
def test_a_teacher_of_all_channels_may_have_them_in_another_order(complete):
    student, teacher, images = make_model(), dedicated("B,R,G"), torch.rand(9, 3, 16, 16)
    rows = StepParts(PARTS, torch.arange(9), torch.tensor(complete))
    answers, taught = find_teacher(teacher, images, torch.randn(9, 4), rows, student.channels, DISTILL)
    assert taught.tolist() == complete
    torch.testing.assert_close(answers[taught], teacher(images[:, [2, 0, 1]])[taught])


def test_a_teacher_answers_once_to_an_image_that_is_shown_several_times():
    student, teacher, images = make_model(), dedicated("B,R,G"), torch.rand(3, 3, 16, 16)
    asked = []
    teacher.register_forward_pre_hook(lambda module, inputs: asked.append(len(inputs[0])))
    rows = assign_channels([Part(FULL, 0, 3), Part((1,), 0, 3), Part((0, 2), 1, 3)], None, Share())
    answers, taught = find_teacher(teacher, images, torch.randn(8, 4), rows, student.channels, DISTILL)
    assert taught.all()
    assert asked == [3]
    torch.testing.assert_close(answers, teacher(images[:, [2, 0, 1]])[[0, 1, 2, 0, 1, 2, 1, 2]])


def test_training_learns_from_a_dedicated_teacher(train, val):
    settings = replace(SETTINGS, epochs=1, sampler="split")
    plain, taught = make_model(), make_model()
    fit(plain, train, val, settings)
    fit(taught, train, val, replace(settings, distill=0.5), teacher=dedicated("G"))
    assert not states_equal(plain.state_dict(), taught.state_dict())
