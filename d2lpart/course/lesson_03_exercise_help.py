"""Lesson 03: hints to its exercises, and worked examples of other problems."""

from d2lpart.course.lessons.help_table import Help

EXERCISE_HELP: dict[str, Help] = {
    "03.1": Help(
        (
            "Which action can only run when all forwards are done? Which stage runs it?",
            "There are as many B as F. Each B waits for a gradient from the stage behind its own.",
            "Two lists, one after the other: F over `range(num_stages)`, B over "
            "`reversed(range(num_stages))`.",
        ),
        "The forwards of two micro-batches through three stages, one after the other:\n"
        '    [f"{stage}F{k}" for k in range(2) for stage in range(3)]',
    ),
    "03.2": Help(
        (
            "How many cuts are there between p stages?",
            "Who has the gradient of its input first? To whom does that input belong?",
            "The pair is `(stage, stage - 1)`, and `stage` runs from the last one down to 1.",
        ),
        "The messages of the *forward* of three stages: [(0, 1), (1, 2)], made by\n"
        "    [(stage, stage + 1) for stage in range(2)]",
    ),
    "03.3": Help(
        (
            "How many numbers are there in one activation?",
            "How many cuts, and how often is each of them crossed?",
            "Messages: 2 · (num_stages − 1). Each has batch · positions · width numbers.",
        ),
        f"The forward alone, 2 samples of 3 positions, width 4, three stages, 2 bytes a number: "
        f"2 cuts × 24 numbers × 2 bytes = {2 * 2 * 3 * 4 * 2} bytes.",
    ),
    "03.4": Help(
        (
            "The mean loss of the mini-batch is (sum of all losses that count) / (how many count).",
            "What do you multiply a mean by, to get the sum it was made from?",
            "Count what counts in each micro-batch; divide each count by the sum of the counts.",
        ),
        "The share of *samples*, which is something else, for micro-batches of 3 and 1 samples: "
        f"3/4 = {3 / 4} and 1/4 = {1 / 4}.",
    ),
    "03.5": Help(
        (
            "Forward: what `first` makes has a history. What `second` gets must have none, and "
            "must still collect a gradient.",
            "`activation.detach().requires_grad_()` is the message. `loss.backward()` runs as far "
            "as the message.",
            "What `loss.backward()` left in `message.grad` is what `activation.backward(…)` starts "
            "from.",
        ),
        "The same for two functions of one number, y = x² and z = 5y, at x = 3:\n"
        "    y = x ** 2; message = y.detach().requires_grad_()\n"
        "    (5 * message).backward()      # message.grad is 5\n"
        "    y.backward(message.grad)      # x.grad is 5 * 6 = 30",
    ),
    "03.6": Help(
        (
            "Three things have to happen: the shares come home, the weight moves, the shadows "
            "follow. In which order?",
            "The gradient is the sum of all shares. And autograd *adds* to a `.grad`: what must be "
            "empty before the next backward?",
            "Add each shadow's share to `home.grad` and set the shadow's to `None`; "
            "`optimizer.step()`, `optimizer.zero_grad()`; then `shadow.data.copy_(home.data)`.",
        ),
        "By hand, with plain descent of rate 0.5: home 8 with share 2, one shadow with share 4. "
        f"The sum is 6, home becomes 8 − 0.5 · 6 = {8 - 0.5 * 6:g}, and so does the shadow.",
    ),
}
