"""SplitBackward: a backward in two halves, I for the gradient of the input and W for the weights'.

The graph of a stage has a trunk, the nodes between its output and its input, and branches from the
trunk to the weights. I runs the trunk, and notes the gradient that arrives at every node with a
branch. W starts again from these nodes and asks each for its branches alone, so that neither the
forward nor the trunk runs twice. (A matrix product, a normalisation or a convolution is one node,
but it computes only what it is asked for. A hook on an activation is called by both halves, and
changes the gradient once.)

Of some weights I computes the gradients, and W has only to add them up:

- those used several times in the stage, as one use may lie behind another: autograd meets all
  their uses in one run;
- those tied to an earlier stage, as their gradients travel with that of the input;
- those behind a node that may run once only: one of a custom `autograd.Function`, which need not
  have its tensors twice, and one in a checkpoint, which would compute its forward a second time;
- all in a stage with a compiled layer, as that runs in a graph only that is let go at once.

A checkpoint with `use_reentrant=True` runs in a whole backward only, and is refused.

Where the input wants no gradient (token numbers), the trunk ends at the output of the first layer
that learns, and the backward of that layer is part of W. All of it is W where a weight is used on
both sides of that end, or where a checkpoint wants it whole: nothing waits for this I.

Source: zero-bubble pipelines (arXiv 2401.10241, section 2; its B and W are I and W here).
"""

from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import GradientEdge, Node
from torch.utils.hooks import RemovableHandle

from d2lpart.stages.saved import Saved, saved_elsewhere

COMPILED = "CompiledFunctionBackward"
"""What torch calls the node of a compiled layer."""

REENTRANT = "CheckpointFunctionBackward"
"""What torch calls the node of a checkpoint that is run with `use_reentrant=True`."""

Part = tuple[GradientEdge, Tensor | None]
"""A place in the graph, and a gradient on its way into it."""

Places = dict[int, GradientEdge]
"""Some of the edges that leave a node, by their places in it."""


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

    Raises:
        ValueError: the input wants a gradient, and a checkpoint takes a whole backward only.
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
        whole = any(node.name() == REENTRANT for node in self._givers)
        if whole and reaches_input:
            raise ValueError(
                "a checkpoint with use_reentrant=True runs in a whole backward only, and this "
                "schedule splits it into I and W: use use_reentrant=False, or a schedule whose "
                "backward is whole (1f1b, gpipe, interleaved)"
            )
        if whole or (not reaches_input and _bypassed(end.node, self._givers)):
            self._trunk.clear()  # all of it is W
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
            self._parts = _added(self._parts, self._tied)
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
        now, branches = self._plan()
        wanted = [self._end] if self._reaches_input else []
        handles: list[RemovableHandle] = []
        try:
            for node, edges in now.items():
                wanted += edges.values()
                handles.append(self._note_parts(node, edges))
            for branch in branches:
                handles += self._note_branch(branch)
            found = torch.autograd.grad(
                [self._root], wanted, [gradient], retain_graph=bool(branches), allow_unused=True
            )
        finally:
            for handle in handles:
                handle.remove()
        return found[0] if self._reaches_input else None

    def _plan(self) -> tuple[dict[Node, Places], list[Branch]]:
        """Return the edges on which I notes gradients, and the nodes that W runs again."""
        now: defaultdict[Node, Places] = defaultdict(dict)
        branches = []
        compiled = any(node.name() == COMPILED for node in self._givers)
        for node in self._trunk:
            leaving = self._leaving(node)
            if not leaving:
                continue
            once = compiled or isinstance(node, BackwardCFunction) or saved_elsewhere(node)
            later: list[Tensor] = []
            for place, edge in leaving.items():
                behind = [] if edge.node is self._end.node else _behind(edge.node)
                if behind and not once and self._can_wait(behind):
                    later += _leaves(behind)
                    continue
                ways = {node: {place: edge}} | {giver: _edges(giver) for giver in behind}
                for giver, edges in ways.items():
                    last = {i: e for i, e in edges.items() if self._stops_at(e.node)}
                    if last:
                        now[giver] |= last
            if later:
                branches.append(Branch(node, later))
        return now, branches

    def _leaving(self, node: Node) -> Places:
        """Return the edges of a node that leave the trunk, but for one to the input."""
        skipped = {self._end.node} if self._reaches_input else set()
        edges = _edges(node).items()
        return {i: e for i, e in edges if e.node not in self._trunk and e.node not in skipped}

    def _stops_at(self, node: Node) -> bool:
        """Say whether I goes no further than to the edges into this node."""
        return node is self._end.node or hasattr(node, "variable")

    def _can_wait(self, behind: Sequence[Node]) -> bool:
        """Say whether W can find the gradients of the weights that are among these nodes."""
        several = any(len(self._givers[node]) > 1 for node in behind)
        tied = not self._tied.isdisjoint(_leaves(behind))
        return not (several or tied or any(map(saved_elsewhere, behind)))

    def _note_parts(self, node: Node, edges: Places) -> RemovableHandle:
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


def _added(parts: Sequence[Part], apart: Collection[Tensor]) -> list[Part]:
    """Add up the parts that enter the graph in one place, so that one of them waits for W.

    Those of the weights in `apart` stay as they are: what is added to first comes from elsewhere.
    """
    added: dict[tuple[object, ...], Part] = {}
    for number, (edge, gradient) in enumerate(parts):
        assert gradient is not None, "only gradients that were made are noted"
        alone = number if getattr(edge.node, "variable", None) in apart else None
        key = edge.node, edge.output_nr, gradient.layout, alone
        _, before = added.get(key, (edge, None))
        added[key] = edge, gradient if before is None else before + gradient
    return list(added.values())


def cannot_be_split(root: Node) -> bool:
    """Say whether a checkpoint lies behind `root` that runs in a whole backward only."""
    return any(node.name() == REENTRANT for node in _givers(root))


def _edges(node: Node) -> Places:
    return {
        place: GradientEdge(child, number)
        for place, (child, number) in enumerate(node.next_functions)
        if child is not None
    }


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


def _bypassed(end: Node, givers: dict[Node, list[Node]]) -> bool:
    """Say whether a gradient gets to a node behind `end` by a way that leaves `end` out."""
    behind = _givers(end)
    return any(giver not in behind for node in behind if node is not end for giver in givers[node])


def _behind(node: Node) -> list[Node]:
    """Return the node and all that its gradients get to."""
    return list(_givers(node))


def _weights(node: Node) -> list[Tensor]:
    """Return the leaves in which this node's gradients end."""
    return _leaves(_behind(node))


def _leaves(nodes: Iterable[Node]) -> list[Tensor]:
    """Return the weights that are among the nodes of a graph."""
    return [leaf.variable for leaf in nodes if hasattr(leaf, "variable")]
