"""Shared wires: a step whose messages queue, played in the order of time.

Without queues a message's arrival follows from its maker's end alone. On a shared wire it depends
on what else was ready before it, so the ends of actions are events, taken from a heap.
"""

import heapq
from collections.abc import Hashable, Sequence

from d2lpart.schedules.compiled_schedule import CompiledSchedule


def play(
    program: CompiledSchedule,
    seconds: Sequence[float],
    delays: Sequence[float],
    wires: Sequence[Hashable],
) -> tuple[list[float], list[float], list[float], list[float]]:
    """Place the actions of a schedule whose messages go over wires, one at a time each.

    Messages queue for their wire in the order in which they are ready; those of one moment, in the
    order of their makers' numbers.

    Args:
        program: the schedule compiled, n actions.
        seconds: n, how long each action takes.
        delays: n, how long the message that each action waits for is under way.
        wires: n, the wire of that message, or None where it need not queue.

    Returns:
        Starts and ends of the actions, and for each one the moments at which the message that it
        waits for is taken by its wire and arrives.
    """
    count = len(program.actions)
    source, before = program.source, program.before
    consumer = {maker: number for number, maker in enumerate(source) if maker < count}
    starts, ends = [0.0] * count, [0.0] * (count + 1)
    sent, arrived = [0.0] * count, [0.0] * count
    there = [maker == count for maker in source]  # its message has been sent, and arrives at …
    ended = bytearray(count + 1)
    ended[count] = 1
    free: dict[Hashable, float] = {}
    heap: list[tuple[float, int]] = []

    def start(number: int) -> None:
        starts[number] = max(ends[before[number]], arrived[number])
        heapq.heappush(heap, (starts[number] + seconds[number], number))

    for number in range(count):
        if before[number] == count and there[number]:
            start(number)
    while heap:
        now, number = heapq.heappop(heap)
        ends[number], ended[number] = now, 1
        following = number + 1
        if following < count and before[following] == number and there[following]:
            start(following)
        receiver = consumer.get(number)
        if receiver is not None:
            wire = wires[receiver]
            sent[receiver] = now if wire is None else max(now, free.get(wire, 0.0))
            arrived[receiver] = sent[receiver] + delays[receiver]
            if wire is not None:
                free[wire] = arrived[receiver]
            there[receiver] = True
            if ended[before[receiver]]:
                start(receiver)
    ends.pop()
    return starts, ends, sent, arrived
