# %% [markdown]
# # 03 Splitting a transformer decoder: exercises
#
# Six exercises, about an hour. They go with [lesson 03](../notebooks/03_splitting_a_decoder.ipynb).

# %% [markdown]
# Write each function in place of `raise NotImplementedError`, run its cell, then the check below it. A check that fails shows the smallest case it found and one sentence to go on with. Ranks, stages and layers count from 0. The hints unfold; each says more than the one before.

# %%
import copy

import torch
from d2lpart import Action, Decoder, Pipeline, Schedule, corpus
from d2lpart.course import check, hints
from torch.nn.functional import cross_entropy

torch.set_num_threads(1)
tokens, targets = next(corpus().batches(batch_size=8, context=32))


def small_decoder(**options):
    torch.manual_seed(0)
    return Decoder(vocab_size=256, width=64, num_layers=4, num_heads=4, context=32, **options)


def loss_of(outputs, targets):
    return cross_entropy(outputs.flatten(0, -2), targets.flatten())


# %% [markdown]
# ## Exercise 03.1 ● (5 minutes): The order of events
#
# One mini-batch goes through `num_stages` stages in one piece (micro-batch 0). Write `events(num_stages)`: the list of all actions in the order in which they happen, each as text such as `"2F0"`.
#
# With two stages it is `["0F0", "1F0", "1B0", "0B0"]`.

# %%
hints("03.1")

# %% [markdown]
# Write it here:


# %%
def events(num_stages):
    """All actions of one step, one micro-batch, in order: a list of texts."""
    ### BEGIN SOLUTION
    forward = [f"{stage}F0" for stage in range(num_stages)]
    backward = [f"{stage}B0" for stage in reversed(range(num_stages))]
    return forward + backward
    ### END SOLUTION


# %% tags=["wrong-answer"]
# EXERCISE: 03.1
# MISCONCEPTION: the backward takes the stages in the order of the forward
# EXPECT: the backward begins at stage
def events(num_stages):
    return [f"{s}F0" for s in range(num_stages)] + [f"{s}B0" for s in range(num_stages)]


# %% tags=["wrong-answer"]
# EXERCISE: 03.1
# MISCONCEPTION: a stage goes back as soon as it has gone forward
# EXPECT: There is no loss yet
def events(num_stages):
    order = []
    for s in range(num_stages):
        order += [f"{s}F0", f"{s}B0"]
    return order


# %% tags=["wrong-answer"]
# EXERCISE: 03.1
# MISCONCEPTION: stages count from 1
# EXPECT: Stages count from 0
def events(num_stages):
    stages = range(1, num_stages + 1)
    return [f"{s}F0" for s in stages] + [f"{s}B0" for s in reversed(stages)]


# %% tags=["wrong-answer"]
# EXERCISE: 03.1
# MISCONCEPTION: the micro-batch in front
# EXPECT: the stage stands in front
def events(num_stages):
    stages = range(num_stages)
    return [f"0F{s}" for s in stages] + [f"0B{s}" for s in reversed(stages)]


# %% tags=["wrong-answer"]
# EXERCISE: 03.1
# MISCONCEPTION: the letters small
# EXPECT: ight but for capital letters
def events(num_stages):
    stages = range(num_stages)
    return [f"{s}f0" for s in stages] + [f"{s}b0" for s in reversed(stages)]


# %% tags=["wrong-answer"]
# EXERCISE: 03.1
# MISCONCEPTION: the backward is one action at the end
# EXPECT: times F, then
def events(num_stages):
    return [f"{s}F0" for s in range(num_stages)] + [f"{num_stages - 1}B0"]


# %% tags=["right-answer"]
# EXERCISE: 03.1
def events(num_stages):
    order = []
    for position in range(2 * num_stages):
        if position < num_stages:
            order.append(f"{position}F0")
        else:
            order.append(f"{2 * num_stages - 1 - position}B0")
    return order


# %% [markdown]
# Run the check.

# %% tags=["nbval-check-output"]
result = check("03.1", events)
result

# %% [markdown]
# Your list can drive a real pipeline: each rank takes its own actions out of it, in your order. Six layers, one a rank, on the wall clock:

# %%
order = result.or_reference()(6)
own = [[a for a in order if Action.parse(a).stage == rank] for rank in range(6)]
schedule = Schedule(own, stage_to_rank=range(6))
pipeline = Pipeline(small_decoder().layers, [1] * 6, ["cpu"] * 6, schedule=schedule, clock="wall")
pipeline.step(tokens, targets)  # to warm up
pipeline.step(tokens, targets).timeline

# %% [markdown]
# ## Exercise 03.2 ● (5 minutes): The messages of the backward pass
#
# Write `backward_messages(num_stages)`: the messages that carry gradients, as pairs (from stage, to stage), in the order in which they are sent. With three stages it is `[(2, 1), (1, 0)]`.

# %%
hints("03.2")

# %% [markdown]
# Write it here:


# %%
def backward_messages(num_stages):
    """The messages of the backward pass, in order: a list of pairs (from stage, to stage)."""
    ### BEGIN SOLUTION
    return [(stage, stage - 1) for stage in range(num_stages - 1, 0, -1)]
    ### END SOLUTION


# %% tags=["wrong-answer"]
# EXERCISE: 03.2
# MISCONCEPTION: gradients go the way of the activations
# EXPECT: A gradient goes the other way
def backward_messages(num_stages):
    return [(s, s + 1) for s in range(num_stages - 1)]


# %% tags=["wrong-answer"]
# EXERCISE: 03.2
# MISCONCEPTION: the first cut is crossed first
# EXPECT: stage 1 cannot send first
def backward_messages(num_stages):
    return [(s + 1, s) for s in range(num_stages - 1)]


# %% tags=["wrong-answer"]
# EXERCISE: 03.2
# MISCONCEPTION: one message for each stage
# EXPECT: there is no stage before stage 0
def backward_messages(num_stages):
    return [(s, s - 1) for s in range(num_stages - 1, -1, -1)]


# %% tags=["wrong-answer"]
# EXERCISE: 03.2
# MISCONCEPTION: the last stage sends every stage its gradient
# EXPECT: knows the gradient of its own input alone
def backward_messages(num_stages):
    last = num_stages - 1
    return [(last, s) for s in range(last - 1, -1, -1)]


# %% tags=["wrong-answer"]
# EXERCISE: 03.2
# MISCONCEPTION: a pair names the receiver first
# EXPECT: a pair begins with the stage that sends
def backward_messages(num_stages):
    return [(s - 1, s) for s in range(num_stages - 1, 0, -1)]


# %% tags=["wrong-answer"]
# EXERCISE: 03.2
# MISCONCEPTION: lists the activations as well
# EXPECT: List those with gradients
def backward_messages(num_stages):
    cuts = range(1, num_stages)
    return [(s - 1, s) for s in cuts] + [(s, s - 1) for s in reversed(cuts)]


# %% tags=["wrong-answer"]
# EXERCISE: 03.2
# MISCONCEPTION: counts stages from 1
# EXPECT: Stages count from 0
def backward_messages(num_stages):
    return [(s, s - 1) for s in range(num_stages, 1, -1)]


# %% tags=["right-answer"]
# EXERCISE: 03.2
def backward_messages(num_stages):
    forward = [[s, s + 1] for s in range(num_stages - 1)]
    return [message[::-1] for message in forward[::-1]]


# %% [markdown]
# Run the check.

# %% tags=["nbval-check-output"]
result = check("03.2", backward_messages)
result

# %% [markdown]
# Hold your list against what the pipeline above has really sent. A transfer names the action that made what it carries.

# %% tags=["nbval-check-output"]
timeline = pipeline.step(tokens, targets).timeline
sent = [(t.source, t.target) for t in timeline.transfers if t.action.kind == "B"]
print("sent:  ", sent)
print("listed:", result.or_reference()(6))

# %% [markdown]
# ## Exercise 03.3 ●● (8 minutes): The bytes of one step
#
# Write `bytes_moved(batch, positions, width, num_stages, bytes_per_number)`: all bytes that cross between stages in one step, activations and gradients. A gradient has the type of what it is the gradient of.
#
# Eight samples of 32 positions, width 64, four stages, 4 bytes a number: 393216.

# %%
hints("03.3")

# %% [markdown]
# Write it here:


# %%
def bytes_moved(batch, positions, width, num_stages, bytes_per_number):
    """The bytes that cross between stages in one step, forward and backward."""
    ### BEGIN SOLUTION
    messages = 2 * (num_stages - 1)
    return messages * batch * positions * width * bytes_per_number
    ### END SOLUTION


# %% tags=["wrong-answer"]
# EXERCISE: 03.3
# MISCONCEPTION: counts the forward alone
# EXPECT: as many come back as gradients
def bytes_moved(batch, positions, width, num_stages, bytes_per_number):
    return (num_stages - 1) * batch * positions * width * bytes_per_number


# %% tags=["wrong-answer"]
# EXERCISE: 03.3
# MISCONCEPTION: one cut for each stage
# EXPECT: nothing crosses behind the last stage
def bytes_moved(batch, positions, width, num_stages, bytes_per_number):
    return 2 * num_stages * batch * positions * width * bytes_per_number


# %% tags=["wrong-answer"]
# EXERCISE: 03.3
# MISCONCEPTION: counts numbers, not bytes
# EXPECT: You count numbers
def bytes_moved(batch, positions, width, num_stages, bytes_per_number):
    return 2 * (num_stages - 1) * batch * positions * width


# %% tags=["wrong-answer"]
# EXERCISE: 03.3
# MISCONCEPTION: a gradient is always sent in 4 bytes a number
# EXPECT: It has 2, as its activation has
def bytes_moved(batch, positions, width, num_stages, bytes_per_number):
    return (num_stages - 1) * batch * positions * width * (bytes_per_number + 4)


# %% tags=["right-answer"]
# EXERCISE: 03.3
def bytes_moved(batch, positions, width, num_stages, bytes_per_number):
    message = torch.empty(batch, positions, width).numel() * bytes_per_number
    there = back = message * (num_stages - 1)
    return there + back


# %% [markdown]
# Run the check.

# %% tags=["nbval-check-output"]
result = check("03.3", bytes_moved)
result

# %% [markdown]
# With it, look at real sizes: one sequence in 2-byte numbers, one cut, against the weights on one side of it when the blocks are shared by 8 stages (a block of width h has about 12·h² weights).

# %% tags=["nbval-check-output"]
moved = result.or_reference()
models = {"GPT-2": (1024, 768, 12), "GPT-2 XL": (1024, 1600, 48), "GPT-3": (2048, 12288, 96)}
for name, (positions, width, blocks) in models.items():
    one_cut = moved(1, positions, width, 2, 2)
    weights = 12 * width**2 * blocks / 8 * 2
    print(f"{name:9} {one_cut / 1e6:6.1f} MB cross, {weights / 1e6:8.0f} MB of weights stay")

# %% [markdown]
# The larger the model, the smaller the part that moves: the message grows with the width, the weights with its square and with the depth.
#
# ## Exercise 03.4 ●● (8 minutes): The weights of micro-batches
#
# A mini-batch has been cut into micro-batches, each with its own mean loss. Write `microbatch_weights(microbatches)`: one weight for each, so that the weighed losses add up to the mean loss of the mini-batch. A micro-batch is given as the list of its targets, and a target of −100 does not count.
#
# `microbatch_weights([[3, 8, 2], [1, -100, -100]])` is `[0.75, 0.25]`. At least one target counts.

# %%
hints("03.4")

# %% [markdown]
# Write it here:


# %%
def microbatch_weights(microbatches):
    """The share of each micro-batch in the mean loss: a list of numbers that add up to 1."""
    ### BEGIN SOLUTION
    counts = [sum(target != -100 for target in targets) for targets in microbatches]
    return [count / sum(counts) for count in counts]
    ### END SOLUTION


# %% tags=["wrong-answer"]
# EXERCISE: 03.4
# MISCONCEPTION: the mean of the means
# EXPECT: You take the mean of the means
def microbatch_weights(microbatches):
    return [1 / len(microbatches) for _ in microbatches]


# %% tags=["wrong-answer"]
# EXERCISE: 03.4
# MISCONCEPTION: counts ignored targets, too
# EXPECT: You count the targets of -100, too
def microbatch_weights(microbatches):
    lengths = [len(targets) for targets in microbatches]
    return [length / sum(lengths) for length in lengths]


# %% tags=["wrong-answer"]
# EXERCISE: 03.4
# MISCONCEPTION: divides by the micro-batch's own length
# EXPECT: divide by the sum of these
def microbatch_weights(microbatches):
    return [sum(t != -100 for t in targets) / len(targets) for targets in microbatches]


# %% tags=["right-answer"]
# EXERCISE: 03.4
def microbatch_weights(microbatches):
    counting = [torch.tensor(targets) != -100 for targets in microbatches]
    total = torch.cat(counting).sum()
    return torch.stack([c.sum() / total for c in counting])


# %% [markdown]
# Run the check.

# %% tags=["nbval-check-output"]
result = check("03.4", microbatch_weights)
result

# %% [markdown]
# Your weights against a full mini-batch of samples of unequal length, in four micro-batches on one device:

# %%
ragged = targets.clone()
for row in range(8):
    ragged[row, 32 - 4 * row :] = -100
parts = list(zip(tokens.tensor_split(4), ragged.tensor_split(4)))
weights = result.or_reference()([y.flatten().tolist() for _, y in parts])

full, added = small_decoder(), small_decoder()
loss_of(full(tokens), ragged).backward()
for (x, y), weight in zip(parts, weights):
    (loss_of(added(x), y) * weight).backward()
expected = full[0].token.weight.grad
off = (added[0].token.weight.grad - expected).norm() / expected.norm()
print("weights", [round(float(weight), 3) for weight in weights])
print(f"the embedding's gradient is off by {off:.0e} of its length")

# %% [markdown]
# ## Exercise 03.5 ●● (15 minutes): Two stages by hand
#
# Write `split_backward(first, second, inputs, targets, loss_fn)`: one step over two stages, as if each were on a device of its own. Nothing but numbers crosses the cut. It leaves the gradients in the weights of both, adds them to what is there, and returns the loss, `loss_fn(outputs, targets)`.
#
# Try it without looking back at the lesson.

# %%
hints("03.5")

# %% [markdown]
# Write it here:


# %%
def split_backward(first, second, inputs, targets, loss_fn):
    """One step over two stages; returns the loss."""
    ### BEGIN SOLUTION
    activation = first(inputs)
    message = activation.detach().requires_grad_()
    loss = loss_fn(second(message), targets)
    loss.backward()
    activation.backward(message.grad)
    return loss
    ### END SOLUTION


# %% tags=["wrong-answer"]
# EXERCISE: 03.5
# MISCONCEPTION: does not cut at all
# EXPECT: still has its history
def split_backward(first, second, inputs, targets, loss_fn):
    loss = loss_fn(second(first(inputs)), targets)
    loss.backward()
    return loss


# %% tags=["wrong-answer"]
# EXERCISE: 03.5
# MISCONCEPTION: forgets detach, and keeps the graph to silence the error
# EXPECT: come out 2 times as large
def split_backward(first, second, inputs, targets, loss_fn):
    activation = first(inputs)
    activation.retain_grad()
    loss = loss_fn(second(activation), targets)
    loss.backward(retain_graph=True)
    activation.backward(activation.grad)
    return loss


# %% tags=["wrong-answer"]
# EXERCISE: 03.5
# MISCONCEPTION: clones in place of detaching, and runs into autograd's advice
# EXPECT: still has its history
def split_backward(first, second, inputs, targets, loss_fn):
    activation = first(inputs)
    message = activation.clone()
    message.retain_grad()
    loss = loss_fn(second(message), targets)
    loss.backward()
    activation.backward(message.grad)
    return loss


# %% tags=["wrong-answer"]
# EXERCISE: 03.5
# MISCONCEPTION: the arguments of the loss change places
# EXPECT: in this order and as it stands
def split_backward(first, second, inputs, targets, loss_fn):
    activation = first(inputs)
    message = activation.detach().requires_grad_()
    loss = loss_fn(targets, second(message))
    loss.backward()
    activation.backward(message.grad)
    return loss


# %% tags=["wrong-answer"]
# EXERCISE: 03.5
# MISCONCEPTION: the gradient stays behind
# EXPECT: it has to go on into `first`
def split_backward(first, second, inputs, targets, loss_fn):
    message = first(inputs).detach().requires_grad_()
    loss = loss_fn(second(message), targets)
    loss.backward()
    return loss


# %% tags=["wrong-answer"]
# EXERCISE: 03.5
# MISCONCEPTION: the message asks for no gradient
# EXPECT: asks for no gradient
def split_backward(first, second, inputs, targets, loss_fn):
    activation = first(inputs)
    loss = loss_fn(second(activation.detach()), targets)
    loss.backward()
    return loss


# %% tags=["wrong-answer"]
# EXERCISE: 03.5
# MISCONCEPTION: starts the first stage's backward from ones
# EXPECT: Which gradient did its backward start from?
def split_backward(first, second, inputs, targets, loss_fn):
    activation = first(inputs)
    message = activation.detach().requires_grad_()
    loss = loss_fn(second(message), targets)
    loss.backward()
    activation.backward(torch.ones_like(activation))
    return loss


# %% tags=["wrong-answer"]
# EXERCISE: 03.5
# MISCONCEPTION: clears what earlier micro-batches have left
# EXPECT: have to add up
def split_backward(first, second, inputs, targets, loss_fn):
    first.zero_grad()
    second.zero_grad()
    activation = first(inputs)
    message = activation.detach().requires_grad_()
    loss = loss_fn(second(message), targets)
    loss.backward()
    activation.backward(message.grad)
    return loss


# %% tags=["wrong-answer"]
# EXERCISE: 03.5
# MISCONCEPTION: replaces the gradients of the second stage
# EXPECT: After two calls the gradients of `second` are 1 times
def split_backward(first, second, inputs, targets, loss_fn):
    activation = first(inputs)
    message = activation.detach().requires_grad_()
    loss = loss_fn(second(message), targets)
    weights = list(second.parameters())
    gradient, *own = torch.autograd.grad(loss, [message, *weights])
    for weight, share in zip(weights, own):
        weight.grad = share
    activation.backward(gradient)
    return loss


# %% tags=["wrong-answer"]
# EXERCISE: 03.5
# MISCONCEPTION: shows a cut message first, then computes without a cut
# EXPECT: still has its history
def split_backward(first, second, inputs, targets, loss_fn):
    second(first(inputs).detach().requires_grad_())
    loss = loss_fn(second(first(inputs)), targets)
    loss.backward()
    return loss


# %% tags=["right-answer"]
# EXERCISE: 03.5
def split_backward(first, second, inputs, targets, loss_fn):
    activation = first(inputs)
    message = torch.tensor(activation.tolist(), requires_grad=True)  # over a wire
    loss = loss_fn(second(message), targets)
    loss.backward()
    (activation * message.grad).sum().backward()
    return loss.item()


# %% [markdown]
# Run the check.

# %% tags=["nbval-check-output"]
result = check("03.5", split_backward)
result

# %% [markdown] tags=["solution-only"]
# A stage needs no special call for the gradient that arrives: `(activation * message.grad).sum().backward()` starts from the same numbers, as the derivative of that sum by the activation is `message.grad`. And the message may go through a list, a file or a socket on its way: nothing but its numbers is used.

# %% [markdown]
# Your step trains a decoder, and an uncut one beside it. How far apart are they after ten updates?

# %% tags=["nbval-check-output"]
step = result.or_reference()
cut, uncut = small_decoder(), small_decoder()
descents = [torch.optim.SGD(model.parameters(), lr=0.5) for model in (cut, uncut)]
for x, y in corpus().batches(8, 32, steps=10, seed=1):
    for descent in descents:
        descent.zero_grad()
    step(cut[:3], cut[3:], x, y, loss_of)
    loss_of(uncut(x), y).backward()
    for descent in descents:
        descent.step()
equal = [torch.equal(a, b) for a, b in zip(cut.parameters(), uncut.parameters())]
print(f"{sum(equal)} of {len(equal)} weights are equal to the last bit after 10 updates")

# %% [markdown]
# ## Exercise 03.6 ●●● (20 minutes): One weight on two stages
#
# A tied weight has its `home` in one stage; other stages compute with `shadows`, which hold the same numbers. All backwards of a step are done: each of them has left its share in its own `.grad`. Where a stage has not used the weight in this step, the share is `None`; home's may be, too.
#
# Write `tied_step(home, shadows, optimizer)`: it ends the step, so that the next one can begin. The optimizer knows `home` alone. It returns nothing.

# %%
hints("03.6")

# %% [markdown]
# Write it here:


# %%
def tied_step(home, shadows, optimizer):
    """End a step of a tied weight; home and shadows are nn.Parameter."""
    ### BEGIN SOLUTION
    for shadow in shadows:
        if shadow.grad is not None:
            home.grad = shadow.grad if home.grad is None else home.grad + shadow.grad
            shadow.grad = None
    optimizer.step()
    optimizer.zero_grad()
    for shadow in shadows:
        shadow.data.copy_(home.data)
    ### END SOLUTION


# %% tags=["wrong-answer"]
# EXERCISE: 03.6
# MISCONCEPTION: the head's share takes the place of the embedding's
# EXPECT: The share that was at home is lost
def tied_step(home, shadows, optimizer):
    for shadow in shadows:
        home.grad, shadow.grad = shadow.grad, None
    optimizer.step()
    optimizer.zero_grad()
    for shadow in shadows:
        shadow.data.copy_(home.data)


# %% tags=["wrong-answer"]
# EXERCISE: 03.6
# MISCONCEPTION: takes the mean of the shares
# EXPECT: That is the mean
def tied_step(home, shadows, optimizer):
    shares = [p.grad for p in (home, *shadows)]
    home.grad = sum(s for s in shares if s is not None) / len(shares)
    for shadow in shadows:
        shadow.grad = None
    optimizer.step()
    optimizer.zero_grad()
    for shadow in shadows:
        shadow.data.copy_(home.data)


# %% tags=["wrong-answer"]
# EXERCISE: 03.6
# MISCONCEPTION: leaves the shares in the shadows
# EXPECT: Shares of the step before still lie in the shadows
def tied_step(home, shadows, optimizer):
    for shadow in shadows:
        home.grad = home.grad + shadow.grad
    optimizer.step()
    optimizer.zero_grad()
    for shadow in shadows:
        shadow.data.copy_(home.data)


# %% tags=["wrong-answer"]
# EXERCISE: 03.6
# MISCONCEPTION: forgets that the shadows have to follow
# EXPECT: would compute with two different weights
def tied_step(home, shadows, optimizer):
    for shadow in shadows:
        home.grad, shadow.grad = home.grad + shadow.grad, None
    optimizer.step()
    optimizer.zero_grad()


# %% tags=["wrong-answer"]
# EXERCISE: 03.6
# MISCONCEPTION: refreshes the shadows before the weight has moved
# EXPECT: but a shadow holds
def tied_step(home, shadows, optimizer):
    for shadow in shadows:
        home.grad, shadow.grad = home.grad + shadow.grad, None
        shadow.data.copy_(home.data)
    optimizer.step()
    optimizer.zero_grad()


# %% tags=["wrong-answer"]
# EXERCISE: 03.6
# MISCONCEPTION: does not think of a stage that has not used the weight
# EXPECT: raises TypeError
def tied_step(home, shadows, optimizer):
    for shadow in shadows:
        home.grad, shadow.grad = home.grad + shadow.grad, None
    optimizer.step()
    optimizer.zero_grad()
    for shadow in shadows:
        shadow.data.copy_(home.data)


# %% tags=["wrong-answer"]
# EXERCISE: 03.6
# MISCONCEPTION: where home has no share, the others are dropped
# EXPECT: Who moves it by their sum
def tied_step(home, shadows, optimizer):
    for shadow in shadows:
        if home.grad is not None and shadow.grad is not None:
            home.grad = home.grad + shadow.grad
        shadow.grad = None
    optimizer.step()
    optimizer.zero_grad()
    for shadow in shadows:
        shadow.data.copy_(home.data)


# %% tags=["wrong-answer"]
# EXERCISE: 03.6
# MISCONCEPTION: one step of the optimizer for each share
# EXPECT: have to step once each time, with the sum
def tied_step(home, shadows, optimizer):
    for weight in (home, *shadows):
        home.grad, share = None, weight.grad
        weight.grad = None
        home.grad = share
        optimizer.step()
    home.grad = None
    for shadow in shadows:
        shadow.data.copy_(home.data)


# %% tags=["right-answer"]
# EXERCISE: 03.6
def tied_step(home, shadows, optimizer):
    shares = [p.grad for p in (home, *shadows) if p.grad is not None]
    home.grad = torch.stack(shares).sum(0) if shares else None
    optimizer.step()
    for weight in (home, *shadows):
        weight.grad = None
        weight.data = home.data


# %% [markdown]
# Run the check.

# %% tags=["nbval-check-output"]
result = check("03.6", tied_step)
result

# %% [markdown] tags=["solution-only"]
# The order matters: sum before the step, refresh after it. Another way keeps two equal weights: both sides get the sum and both make the same step. Then nothing is refreshed, but each side holds its own optimizer state, and the two must never differ by a bit.

# %% [markdown]
# A tied decoder, cut in two by hand, beside the uncut one. The head's matrix in the second stage is the shadow.

# %% tags=["nbval-check-output"]
end_step = result.or_reference()
uncut = small_decoder(tied=True)
first, second = copy.deepcopy(uncut[:3]), copy.deepcopy(uncut[3:])
home, shadow = first[0].token.weight, second[-1].projection.weight
own = [p for p in (*first.parameters(), *second.parameters()) if p is not shadow]
descent, reference = torch.optim.SGD(own, lr=0.5), torch.optim.SGD(uncut.parameters(), lr=0.5)
for x, y in corpus().batches(8, 32, steps=10, seed=1):
    step(first, second, x, y, loss_of)
    end_step(home, [shadow], descent)
    reference.zero_grad()
    loss_of(uncut(x), y).backward()
    reference.step()
expected = uncut[0].token.weight
print("home equal to the uncut weight:  ", torch.equal(home, expected))
print("shadow equal to the uncut weight:", torch.equal(shadow, expected))

# %% [markdown]
# ## A challenge without a check: half the bytes
#
# A message of 2-byte numbers (`torch.bfloat16`) is half as large. Write a `split_backward` that sends both messages so: convert before the cut, convert back behind it, keep all computing in 4 bytes. Then answer with numbers:
#
# - By how much does the gradient of the first stage differ from the uncut one, relative to its length?
# - And if you cut in six stages instead of two?
# - Train both for 200 steps. Does the loss care?
#
# Two to three digits of each number are left in a bfloat16, so do not expect bits to agree. Expect to be surprised how little it matters, and ask yourself when it would.
