"""Lesson 04: hints to its questions and exercises, and worked examples with other numbers."""

from d2lpart import Partition, build_schedule, partition, simulate
from d2lpart.course.lessons.help_table import Help
from d2lpart.course.lessons.lesson_04.variants import dealt


def _naive(loads: list[int]) -> float:
    durations = [{"F": load, "B": 2 * load} for load in loads]
    return simulate(build_schedule("naive", len(loads), 1), durations).makespan


def _gpipe(chunks: int) -> float:
    """The idle part of 4 micro-batches on 2 ranks with so many chunks of a layer of 1 s each."""
    share = 2 / chunks
    schedule = build_schedule("gpipe", 2, 4, chunks=chunks)
    return simulate(schedule, {"F": share, "B": 2 * share}).idle_fraction()


HELP: dict[str, Help] = {
    "04.q1": Help(
        "The method distributes whole layers, and each device passes its result on once.",
        "Follow one sample from layer 0 to layer 23. In which of the four does it change device "
        "least often?",
        "Two of the four are other methods altogether. Of the other two, one keeps neighbours "
        "together.",
        lambda: (
            f"Eight layers on two devices: layers 0 to 3, then 4 to 7, have "
            f"{Partition([4, 4]).crossings} crossing; dealt out in turn they have {dealt(8, 2)}."
        ),
    ),
    "04.q2": Help(
        "Two things are asked of a partition. Equal counts are not one of them.",
        "Write down the layers of device 0. Is there a neighbour of layer 0 among them?",
        "A layer-based partition gives each device consecutive layers.",
        lambda: (
            f"Six layers on two devices: [0, 1, 0, 1, 0, 1] has {dealt(6, 2)} crossings and is "
            f"none; [0, 0, 0, 1, 1, 1] has {Partition([3, 3]).crossings} and is one."
        ),
    ),
    "04.q3": Help(
        "What moves depends on the crossings alone. How many do the groups have, and how many the "
        "dealt layers?",
        "Each crossing carries the same bytes, forward and back. So the two numbers of MB are as "
        "the two numbers of crossings.",
        "Groups have one crossing less than there are devices. Dealt out, every pair of "
        "neighbours crosses; count the pairs.",
        lambda: (
            f"Eight layers on two devices: {Partition([4, 4]).crossings} crossing in groups, "
            f"{dealt(8, 2)} dealt out, so {dealt(8, 2)} times as many bytes."
        ),
    ),
    "04.q4": Help(
        "Each rank has the same work as before. What happens to its waiting?",
        "At the start rank 2 waits for as many layers as lie before its first one. How many were "
        "that, and how many are it now?",
        "All waiting is a quarter of what it was, and the work is unchanged. With idle 40% there "
        "are 4 parts of waiting to 6 of work; what is 1 to 6?",
        lambda: (
            f"Two ranks, four micro-batches: with one stage a rank {_gpipe(1):.1%} is idle, with "
            f"two stages a rank {_gpipe(2):.1%}: 1 part of waiting to 4 of work becomes 1 to 8."
        ),
    ),
    "04.q5": Help(
        "The bottleneck is one stage. Does a naive step wait for it more than for the others?",
        "One rank works at a time. So how long is the step, in terms of the loads?",
        "The step is the sum of all loads. Does a cut elsewhere change the sum?",
        lambda: (
            f"Costs 6, 2, 2, 2 on two ranks, B twice F: cut as 8 and 4 a naive step takes "
            f"{_naive([8, 4]):g}, cut as 6 and 6 it takes {_naive([6, 6]):g}."
        ),
    ),
    "04.q6": Help(
        "Some stage has at least as much as the mean. What is the mean here?",
        "Layers do not split, so a load is a whole number. Which is the first one that is not "
        "below the mean?",
        "Now see whether that number can be reached: give each stage so many layers until none "
        "are left.",
        lambda: (
            f"10 equal layers on 4 stages: the mean is 2.5, so at least 3; 3 + 3 + 3 + 1 reaches "
            f"{partition([1] * 10, 4).bottleneck([1] * 10):g}."
        ),
    ),
    "04.q7": Help(
        "Count what is done with the weights, not the weights.",
        "What does an embedding do with one token?",
        "A look-up copies a row. The head multiplies each position's vector with its whole matrix.",
        lambda: (
            f"A linear layer of 8 × 8 has {8 * 8} weights, and multiplies {8 * 8} times for each "
            f"position; a table of {8 * 8} numbers is read in one row of {8}."
        ),
    ),
    "04.q8": Help(
        "Embedding and head need 40 each, a block 10. What fits into 60 beside each of them?",
        "Two blocks at most beside each. The two stages in between hold blocks alone; how many "
        "are left for them?",
        "Try both: two blocks beside the head or none, and share the rest evenly. Time is 10 a "
        "block, 40 for the head.",
        lambda: (
            "Six blocks on three stages, with room for 60: two blocks at most beside the embedding "
            f"and beside the head. The smallest bottleneck is {_small(None):g} without that limit, "
            f"and {_small(60):g} with it."
        ),
    ),
    "04.q9": Help(
        "The heaviest layer has to be somewhere. What is the least that its device can have?",
        "Alone, it makes 5. So nobody else may have more than 5, and neighbours stay together.",
        "Layer 0 alone; then the other five layers cost 7 in all. Cut them into two runs.",
        lambda: (
            f"Costs 4, 1, 2, 2, 1 on 2 devices: the best is "
            f"{list(partition([4, 1, 2, 2, 1], 2).sizes)}, with "
            f"{partition([4, 1, 2, 2, 1], 2).bottleneck([4, 1, 2, 2, 1]):g} on the fuller one."
        ),
    ),
}


def _small(capacity: float | None) -> float:
    """The smallest bottleneck of an embedding, six blocks and a head on three stages."""
    costs, memory = [1] + [10] * 6 + [30], [40] + [10] * 6 + [40]
    if capacity is None:
        return partition(costs, 3).bottleneck(costs)
    return partition(costs, 3, memory=memory, capacity=capacity).bottleneck(costs)


EXERCISE_HELP: dict[str, Help] = {
    "04.1": Help(
        "Walk from the first layer to the last, and watch the device. When does the data have to "
        "travel?",
        "Compare each layer's device with that of the layer after it. Which layer has none after "
        "it?",
        "`pairwise(placement)` gives pairs (a, b) of neighbours. Count those with `a != b`.",
        "A relative: how many neighbours are on *one* device?\n"
        "    sum(a == b for a, b in pairwise([0, 0, 1, 1, 2, 2]))   # 3",
    ),
    "04.2": Help(
        "When is the first micro-batch through all stages?",
        "After it the others come out one by one. The slowest stage never waits in between. How "
        "far apart are they?",
        "The sum of the loads for the first; the largest load for each of the `num_microbatches - "
        "1` others.",
        lambda: (
            f"Loads 1 and 3, two micro-batches: the first is through after 1 + 3 = 4 s, the other "
            f"one 3 s later, {1 + 3 + 1 * 3} s."
        ),
    ),
    "04.3": Help(
        "Between n layers there are n − 1 places. How many of them do you choose?",
        "`combinations(range(1, len(costs)), num_stages - 1)` yields all choices of places. Add 0 "
        "and `len(costs)` at the ends, and each pair of neighbours is a stage.",
        "Make the list of sizes for each choice, then `min(all_sizes, key=...)`, where the key is "
        "the largest sum of costs over a stage. `Partition(sizes).bottleneck(costs)` is that "
        "number.",
        "Of all ways to cut four layers in two, the one whose *first* stage is nearest to half:\n"
        "    sizes = [[k, 4 - k] for k in range(1, 4)]\n"
        "    min(sizes, key=lambda s: abs(Partition(s).loads(costs)[0] - sum(costs) / 2))",
    ),
    "04.4": Help(
        "There are two sums for each stage. One decides whether the cut is allowed, the other how "
        "good it is.",
        "Begin with all cuts, as before. Which of them do you throw away before you look for the "
        "best? What if none is left?",
        "Keep the sizes with `Partition(sizes).bottleneck(memory) <= capacity`; then "
        "`min(fitting, key=..., default=[])`.",
        "The same pattern elsewhere: of some links, the fastest one that costs at most 10.\n"
        "    fitting = [link for link in links if link.price <= 10]\n"
        "    max(fitting, key=lambda link: link.bandwidth, default=None)",
    ),
}
