"""Lesson 02: hints to its questions and exercises, and worked examples with other numbers."""

from d2lpart.common.quantities import bytes_text
from d2lpart.course.lessons.help_table import Help
from d2lpart.course.lessons.lesson_02.facts import (
    FLOAT,
    POOL2,
    before,
    costs,
    decoder_ways,
    held,
    numbers,
    parameters,
    replicas,
    share,
)

HELP: dict[str, Help] = {
    "02.q1": Help(
        "What is cut: the list of layers, each layer, or the mini-batch?",
        "Every GPU works on every image, and on every layer. What does it not have all of?",
        "It has some channels of each layer. Which of the three names is for that?",
        lambda: (
            f"The other way round: {len(costs())} layers, each GPU with all channels of every "
            f"layer, and 1/4 of the images: data parallelism."
        ),
    ),
    "02.q2": Help(
        "Ask of each: can a single layer be on two devices in parts?",
        "D2L and the Foundations both say *layer-wise*, and do not mean the same.",
        "D2L's *layer-wise* goes through each layer. The Foundations' *layer-wise model "
        "parallelism* hands out whole layers.",
        lambda: (
            f"*Column parallel*, a word of Megatron-LM's: each of 2 ranks has "
            f"{numbers('dense1') // 2} of dense1's {numbers('dense1')} outputs. So it cuts inside."
        ),
    ),
    "02.q3": Help(
        "What crosses a cut is what the layer before it puts out. For how many images?",
        "And the gradients of those numbers come back.",
        "Numbers for an image × images × bytes of a number, twice.",
        lambda: (
            f"Behind dense1, 10 images: 2 × 10 × {numbers('dense1')} × {FLOAT} bytes = "
            f"{2 * 10 * numbers('dense1') * FLOAT / 1000:.2f} kB."
        ),
    ),
    "02.q4": Help(
        "Follow one image through both devices, forward and back.",
        "Which of the devices sees it? What goes from one to the other?",
        "All images visit all devices, one device after another. What does stay at home?",
        lambda: (
            f"Behind pool1 in place of pool2, 2 images: "
            f"{bytes_text(2 * 2 * FLOAT * numbers('pool1'))} cross, and rank 0 holds "
            f"{before(3, 'parameters'):.1%} of the weights."
        ),
    ),
    "02.q5": Help(
        "Do not count layers: look at who does the multiply-adds.",
        "Is there a layer that does more than half of them?",
        "If so, it is on one of the two devices, wherever the cut is.",
        lambda: (
            f"By parameters it is the same with another layer: dense1 holds {share('dense1'):.0%}, "
            f"and behind pool2 lie {1 - before(POOL2, 'parameters'):.0%}."
        ),
    ),
    "02.q6": Help(
        "Each layer needs all outputs of the layer before it. What has to happen in between?",
        "Back, each layer's input gradient is a sum over the ranks, and all wait for it.",
        "Forward one a layer; back one a layer, but for the first: its input is data.",
        lambda: (
            "Two layers: forward 2, back 1, 3 in all. In pairs it would be 1: the sum behind the "
            "second."
        ),
    ),
    "02.q7": Help(
        "What does a replica need in order to compute its images forward?",
        "All layers, whole. Is there less of them when there are fewer images?",
        "Weights do not shrink with the batch. Activations do.",
        lambda: (
            f"Two replicas: {bytes_text(held('data parallelism'))} on each, as on one device alone."
        ),
    ),
    "02.q8": Help(
        "How many pieces is the gradient cut into, and how many rounds does the ring run?",
        "n ranks: n − 1 rounds to add up, and as many to pass the sums round.",
        "In a round each of n ranks sends 1/n. Together that is the whole gradient, once.",
        lambda: (
            f"LeNet, 2 replicas: 2 × 1 × {bytes_text(FLOAT * parameters())} = "
            f"{bytes_text(replicas())}."
        ),
    ),
    "02.q9": Help(
        "One side grows with the batch, the other does not. Which is which?",
        "Write both in numbers: the cut, twice for each sample; the ring, twice a weight.",
        "2 × batch × numbers at the cut = 2 × parameters. The factors cancel.",
        lambda: (
            f"LeNet and the cut behind pool1: {parameters():,} / {numbers('pool1'):,} = "
            f"{parameters() / numbers('pool1'):.1f} images."
        ),
    ),
    "02.q10": Help(
        "A block has two branches. Where does each end?",
        "Each branch is split by outputs and then by inputs; its end is a sum over the ranks.",
        "Back, the gradient of each branch's input is such a sum, too. And the head has a sum and "
        "a gather of its own.",
        lambda: (
            f"One block: 2 forward, 2 back, and 2 for the head: "
            f"{decoder_ways(1)['layer-wise partitioning'].traffic.barriers}."
        ),
    ),
    "02.q11": Help(
        "In which of them does a device need what another has computed before it can begin?",
        "Replicas begin at once, each with its images. Shares of a layer begin at once, too.",
        "A stage begins when the stage before it has ended.",
        lambda: (
            "Two devices and a cut between them: one of 2 works at a time, 50% of all device time "
            "is idle."
        ),
    ),
}

EXERCISE_HELP: dict[str, Help] = {
    "02.1": Help(
        "Which numbers can stand in the table for each of the three ways?",
        "Only 1: replicas. Something between 0 and 1: parts of layers. 0 and 1: whole layers, and "
        "then it matters which.",
        "A rank's layers are consecutive if the last one is as many places behind the first as "
        "there are layers, less 1.",
        "Is a list of numbers all between 0 and 1, ends left out? In the same manner:\n"
        "    all(0 < part < 1 for part in [0.5, 0.25])",
    ),
    "02.2": Help(
        "Keep the size of the image in a variable, and change it at each layer.",
        "A window of width k fits into n pixels n − k + 1 times; a pool of width k leaves n // k.",
        "A convolution has inputs × outputs × k² weights, each used at every place of its output, "
        "and one bias for each output.",
        "One convolution from 1 to 2 channels, window 3, on 5 × 5 pixels: 18 weights and 2 biases; "
        "the output is 3 × 3, so 18 × 9 multiply-adds:\n"
        "    (20, 162)",
    ),
    "02.3": Help(
        "Which rows of `first` make the hidden units of rank r? Which columns of `second` use "
        "them?",
        "Rank r has the units from r·k to (r + 1)·k, with k units a rank.",
        "`first[own]`, `bias[own]`, `second[:, own]`, with `own` a slice; the relu in between.",
        "Without the first layer, the terms of hidden @ second.T for two ranks and four units:\n"
        "    [hidden[:, :2] @ second[:, :2].T, hidden[:, 2:] @ second[:, 2:].T]",
    ),
    "02.4": Help(
        "Write down both sums of numbers, forward and back. How many ranks are there?",
        "With c cuts there are n = c + 1 ranks: the ring moves 2c times the parameters, the cuts "
        "2 × batch × the sum of their numbers.",
        "Solve for the batch at which both are equal. The smallest whole batch *above* that is "
        "asked for.",
        "Three stages, 1,000 parameters, cuts of 30 and 20 numbers: 2 × 2 × 1,000 against 2 × "
        "batch × 50: equal at 40, so the answer is 41.",
    ),
}
