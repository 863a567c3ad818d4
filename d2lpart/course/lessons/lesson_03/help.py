"""Lesson 03: hints, and worked examples with other numbers."""

from d2lpart.course.lessons.help_table import Help
from d2lpart.course.lessons.lesson_03 import facts

EXERCISE_HELP: dict[str, Help] = {
    "03.1": Help(
        "Which action can only run when all forwards are done? Which stage runs it?",
        "There are as many B as F. Each B waits for a gradient from the stage behind its own.",
        "Two lists, one after the other: F over `range(num_stages)`, B over "
        "`reversed(range(num_stages))`.",
        "The forwards of two micro-batches through three stages, one after the other:\n"
        '    [f"{stage}F{k}" for k in range(2) for stage in range(3)]',
    ),
    "03.2": Help(
        "How many cuts are there between p stages?",
        "Who has the gradient of its input first? To whom does that input belong?",
        "The pair is `(stage, stage - 1)`, and `stage` runs from the last one down to 1.",
        "The messages of the *forward* of three stages: [(0, 1), (1, 2)], made by\n"
        "    [(stage, stage + 1) for stage in range(2)]",
    ),
    "03.3": Help(
        "How many numbers are there in one activation?",
        "How many cuts, and how often is each of them crossed?",
        "Messages: 2 · (num_stages − 1). Each has batch · positions · width numbers.",
        f"The forward alone, 2 samples of 3 positions, width 4, three stages, 2 bytes a number: 2 "
        f"cuts × 24 numbers × 2 bytes = {2 * 2 * 3 * 4 * 2} bytes.",
    ),
    "03.4": Help(
        "The mean loss of the mini-batch is (sum of all losses that count) / (how many count).",
        "What do you multiply a mean by, to get the sum it was made from?",
        "Count what counts in each micro-batch; divide each count by the sum of the counts.",
        "The share of *samples*, which is something else, for micro-batches of 3 and 1 samples: "
        f"3/4 = {3 / 4} and 1/4 = {1 / 4}.",
    ),
    "03.5": Help(
        "Forward: what `first` makes has a history. What `second` gets must have none, and must "
        "still collect a gradient.",
        "`activation.detach().requires_grad_()` is the message. `loss.backward()` runs as far as "
        "the message.",
        "What `loss.backward()` left in `message.grad` is what `activation.backward(…)` starts "
        "from.",
        "The same for two functions of one number, y = x² and z = 5y, at x = 3:\n"
        "    y = x ** 2; message = y.detach().requires_grad_()\n"
        "    (5 * message).backward()      # message.grad is 5\n"
        "    y.backward(message.grad)      # x.grad is 5 * 6 = 30",
    ),
    "03.6": Help(
        "Three things have to happen: the shares come home, the weight moves, the shadows follow. "
        "In which order?",
        "The gradient is the sum of all shares. And autograd *adds* to a `.grad`: what must be "
        "empty before the next backward?",
        "Add each shadow's share to `home.grad` and set the shadow's to `None`; "
        "`optimizer.step()`, `optimizer.zero_grad()`; then `shadow.data.copy_(home.data)`.",
        "By hand, with plain descent of rate 0.5: home 8 with share 2, one shadow with share 4. "
        f"The sum is 6, home becomes 8 − 0.5 · 6 = {8 - 0.5 * 6:g}, and so does the shadow.",
    ),
}


def _three_stages_two_back() -> str:
    counts = facts.gone_back((1, 2, 4), 2)
    said = ", ".join(f"{found} of {there} on stage {k}" for k, (found, there) in enumerate(counts))
    return f"Three stages of a small decoder, and stages 2 and 1 have gone back: {said}."


HELP: dict[str, Help] = {
    "03.q1": Help(
        "Where does a backward start, and what does it follow?",
        "It follows the graph. What did `detach()` do to the graph at the cut?",
        "It runs from the loss to the message, and the message has no history.",
        _three_stages_two_back,
    ),
    "03.q2": Help(
        "Begin with what needs nothing from anybody.",
        "What crosses the cut first, and what is computed from it?",
        "The loss turns the direction: stage 1 goes back first, then a gradient crosses.",
        lambda: (
            f"Three stages: three forwards with two activations sent between them, the loss, three "
            f"backwards with two gradients: {len(facts.naive_step(3).spans)} actions and "
            f"{facts.messages(3)} messages."
        ),
    ),
    "03.q3": Help(
        "A message crosses a cut. How many cuts are there between the stages?",
        "What crosses each of them in the forward, and what in the backward?",
        "One activation there, one gradient back, over each of the cuts.",
        lambda: (
            f"Three stages have 2 cuts, and {facts.messages(3)} messages; six have 5, and "
            f"{facts.messages(6)}."
        ),
    ),
    "03.q4": Help(
        "A bit can differ only where an operation is another one, or is done in another order.",
        "Which operations does a cut add? Copying numbers rounds nothing.",
        "The chain rule is interrupted at the cut and goes on behind it with the same numbers.",
        lambda: (
            f"A decoder of 3 layers has 4 ways to be cut; {facts.changed_by_cuts(1)[1]} of "
            f"{facts.changed_by_cuts(1)[0]} change a gradient."
        ),
    ),
    "03.q5": Help(
        "What does the stage behind the cut need to compute? And the one before it?",
        "Weights belong to one stage. Does another one ever use them?",
        "One thing crosses there, one crosses back, and both have the same shape.",
        lambda: (
            "On rank 1 of a small decoder of four stages: {} bytes of weights stay, {} bytes came "
            "in, and {} bytes wait for the backward.".format(*facts.kept(1))
        ),
    ),
    "03.q6": Help(
        "How many numbers has one activation? Multiply its three sizes.",
        "How many bytes are that, and how many messages cross?",
        "Each of the cuts is crossed twice, once by an activation and once by its gradient.",
        lambda: (
            f"2 samples of 16 positions, width 32, 4 bytes, three stages: {facts.messages(3)} "
            f"messages of {2 * 16 * 32 * 4 / 1000:g} kB, together "
            f"{facts.messages(3) * 2 * 16 * 32 * 4 / 1000:g} kB."
        ),
    ),
    "03.q7": Help(
        "What does block 1 compute with?",
        "With what block 0 puts out. When is that there?",
        "Write down when each of the four starts and ends. Do any two overlap?",
        lambda: (
            f"Two blocks on two workers: at most {facts.ranks_at_once(2)} works at a time, and "
            f"{facts.naive_step(2).idle_fraction():.0%} of all rank time is idle."
        ),
    ),
    "03.q8": Help(
        "D2L has names of its own. Which of the three did you meet as *network partitioning*?",
        "“Layer-wise” means here: within each layer.",
        "Of the three, one cuts between the layers, one cuts the data, one cuts every layer.",
        "A layer of 512 outputs on 2 GPUs: each computes 256 of them, and both must meet before "
        "the next layer. Cut between two layers instead, 1 message is enough.",
    ),
    "03.q9": Help(
        "What does an optimizer do with a weight that has no gradient?",
        "Nothing, and it says nothing. What of the last stage?",
        "The last stage learns, on what untrained stages hand it. Does the loss fall?",
        lambda: (
            "The same decoder cut behind the first layer, with only stage 1 going back: the loss "
            "of 10 steps goes from {:.2f} to {:.2f}.".format(*facts.losses_without_sending_back(1))
        ),
    ),
    "03.q10": Help(
        "Without `detach`, how far does the first backward run?",
        "Through stage 1, and on through stage 0. And the second one?",
        "Stage 0 is gone through twice. What does a backward do with a `.grad` that is there?",
        lambda: (
            f"w = 3, w² has the gradient 6. Two backwards through one graph leave "
            f"{facts.gradient_of_square(3.0, 2):g} in `w.grad`, three "
            f"{facts.gradient_of_square(3.0, 3):g}."
        ),
    ),
    "03.q11": Help(
        "In how many places does the loss depend on the shared weight?",
        "Each place has its share of the gradient. Which share does each stage find?",
        "The gradient is the sum of both shares. What does the embedding's copy have of it?",
        lambda: (
            f"w·w at w = 3, as if the two factors were two copies: each copy finds 3, and the "
            f"gradient is {facts.gradient_of_square(3.0):g}, their sum."
        ),
    ),
    "03.q12": Help(
        "A mean is a sum divided by a count. What are the two sums?",
        "Each mean times its own count. And of how many targets is the mean asked for?",
        "Add the two sums and divide by all targets.",
        lambda: f"1.0 over 10 targets and 3.0 over 30: (10 + 90)/40 = {(10 + 90) / 40:g}.",
    ),
}
