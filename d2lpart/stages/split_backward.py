"""SplitBackward: a backward in two halves, I for the gradient of the input and W for the weights'.

The graph of a stage has a trunk, the nodes between its output and its input, and branches from the
trunk to the weights. I runs the trunk, and notes the gradient that arrives at every node with a
branch. W starts again from these nodes and asks each for its branches alone, so that neither the
forward nor the trunk runs twice. (A matrix product, a normalisation or a convolution is one node,
but it computes only what it is asked for. A custom `autograd.Function` computes everything both
times, unless it looks at `ctx.needs_input_grad`.)

Two kinds of weights have their gradients computed in I, where autograd meets all their uses in one
run: those used several times in the stage, as one use may lie behind another; and those tied to an
earlier stage, as their gradients travel with that of the input. W adds up the former.

Where the input wants no gradient (token numbers), the trunk ends at the output of the first layer
that learns, and the backward of that layer is part of W.

Source: zero-bubble pipelines (arXiv 2401.10241, section 2; its B and W are I and W here).
"""

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node
from torch.utils.hooks import RemovableHandle

from d2lpart.stages.saved import Saved

Part = tuple[GradientEdge, Tensor | None]
"""A place in the graph, and a gradient on its way into it."""


@dataclass
class Branch:
    """A node of the trunk that also leads to weights, and what arrived there."""

    node: Node
    weights: list[Tensor]
    arrived: tuple[Tensor | None, ...] = ()


class SplitBackward:
    """The backward of one micro-batch through one stage, in two halves.

    Args:
        root: where the backward starts.
        end: where the trunk ends: the stage's input or the output of a layer.
        reaches_input: which of the two it is.
        saved: what the forward has saved.
        tied: weights that other stages use, too.
        away: those of them whose home is another stage; their gradients are complete after I.
    """

    def __init__(
        self,
        root: GradientEdge,
        end: GradientEdge,
        reaches_input: bool,
        saved: Saved,
        tied: Collection[Tensor] = (),
        away: Collection[Tensor] = (),
    ) -> None:
        self._root, self._end, self._reaches_input = root, end, reaches_input
        self._saved = saved
        self._tied, self._away = set(tied), set(away)
        self._givers = _givers(root.node)
        self._trunk = _above(end.node, self._givers)
        self._branches: deque[Branch] = deque()
        self._parts: list[Part] = []  # found in I, added up in W

    def run_input(self, gradient: Tensor | None, arrived: Sequence[Part] = ()) -> Tensor | None:
        """Run I, and return the gradient of the input, if it wants one.

        Args:
            gradient: of the output; None where that is the loss.
            arrived: gradients of the weights in `away` that come from later stages.
        """
        found = None
        if self._trunk:
            found = self._run_trunk(gradient)
        elif self._reaches_input and self._root.node is self._end.node:
            found = gradient  # the stage does nothing
        else:
            self._parts.append((self._root, gradient))
        away = [part for part in self._parts if self._away.intersection(_weights(part[0].node))]
        self._parts = [part for part in self._parts if not any(part is other for other in away)]
        accumulate([*arrived, *away])
        self._givers.clear()
        self._trunk.clear()
        del self._root  # the nodes above the first branch are not needed any more
        return found

    def run_weights(self, arrived: Sequence[Part] = ()) -> None:
        """Run W: add up the gradients of the weights in their `.grad`.

        Args:
            arrived: gradients of weights that are at home here, from later stages.
        """
        while self._branches:
            branch = self._branches.popleft()
            _run_branch(branch)
        parts, self._parts = self._parts, []
        accumulate([*arrived, *parts])

    def held(self) -> list[Tensor]:
        """Return the gradients that wait for W."""
        waiting = [gradient for branch in self._branches for gradient in branch.arrived]
        waiting += [gradient for _, gradient in self._parts]
        return [gradient for gradient in waiting if gradient is not None]

    def _run_trunk(self, gradient: Tensor | None) -> Tensor | None:
        wanted = [self._end] if self._reaches_input else []
        handles: list[RemovableHandle] = []
        try:
            for node in self._trunk:
                now, later = self._leaving(node)
                wanted += now.values()
                if now:
                    handles.append(self._note_parts(node, now))
                if later:
                    handles += self._note_branch(Branch(node, later))
            found = torch.autograd.grad(
                [self._root], wanted, [gradient], retain_graph=True, allow_unused=True
            )
        finally:
            for handle in handles:
                handle.remove()
        return found[0] if self._reaches_input else None

    def _leaving(self, node: Node) -> tuple[dict[int, GradientEdge], list[Tensor]]:
        """Return the edges on which I finds gradients that leave the trunk, and W's weights.

        The former by their places in the node; the latter are those behind its other edges.
        """
        now, later = {}, []
        for place, (child, _) in enumerate(node.next_functions):
            is_input = self._reaches_input and child is self._end.node
            if child is not None and child not in self._trunk and not is_input:
                weights = self._found_later(child)
                if weights is None:
                    now[place] = _edge(node, place)
                else:
                    later += weights
        return now, later

    def _found_later(self, child: Node) -> list[Tensor] | None:
        """Return the weights behind a node outside the trunk; None if I has to find them."""
        if child is self._end.node:
            return None
        behind = _behind(child)
        weights = _leaves(behind)
        several = any(len(self._givers[node]) > 1 for node in behind)
        return None if several or not self._tied.isdisjoint(weights) else weights

    def _note_parts(self, node: Node, edges: dict[int, GradientEdge]) -> RemovableHandle:
        def leave(made: Sequence[Tensor | None], _: object) -> None:
            self._parts += [(edge, made[i]) for i, edge in edges.items() if made[i] is not None]

        return node.register_hook(leave)

    def _note_branch(self, branch: Branch) -> list[RemovableHandle]:
        def enter(arrived: tuple[Tensor | None, ...]) -> None:
            branch.arrived = arrived
            self._branches.append(branch)
            self._saved.spare(1)

        def leave(_: object, __: object) -> None:
            self._saved.spare(-1)

        return [branch.node.register_prehook(enter), branch.node.register_hook(leave)]


def _run_branch(branch: Branch) -> None:
    """Run one node of the trunk again, for its weights alone."""
    parts = [(GradientEdge(branch.node, i), g) for i, g in enumerate(branch.arrived)]
    arrived = branch.arrived  # a user's hook on the activation has changed it once: not again
    handle = branch.node.register_prehook(lambda _: arrived)
    try:
        accumulate([part for part in parts if part[1] is not None], branch.weights)
    finally:
        handle.remove()


def accumulate(parts: Sequence[Part], weights: Sequence[Tensor] | None = None) -> None:
    """Let the gradients flow on, to all weights or to those named."""
    if parts:
        edges, gradients = zip(*parts, strict=True)
        torch.autograd.backward(edges, gradients, inputs=weights)


def _edge(node: Node, place: int) -> GradientEdge:
    child, number = node.next_functions[place]
    assert child is not None
    return GradientEdge(child, number)


def _givers(root: Node) -> dict[Node, list[Node]]:
    """Return all nodes behind `root`, each with those that hand it a gradient."""
    givers: dict[Node, list[Node]] = {root: []}
    found = [root]
    for node in found:
        for child, _ in node.next_functions:
            if child is not None:
                if child not in givers:
                    givers[child] = []
                    found.append(child)
                givers[child].append(node)
    return givers


def _above(end: Node, givers: dict[Node, list[Node]]) -> dict[Node, None]:
    """Return the nodes whose gradients get to `end`."""
    above: dict[Node, None] = {}
    found = [end]
    for node in found:
        for giver in givers.get(node, ()):
            if giver not in above:
                above[giver] = None
                found.append(giver)
    return above


def _behind(node: Node) -> list[Node]:
    """Return the node and all that its gradients get to."""
    return list(_givers(node))


def _weights(node: Node) -> list[Tensor]:
    """Return the leaves in which this node's gradients end."""
    return _leaves(_behind(node))


def _leaves(nodes: Iterable[Node]) -> list[Tensor]:
    """Return the weights that are among the nodes of a graph."""
    return [leaf.variable for leaf in nodes if hasattr(leaf, "variable")]
