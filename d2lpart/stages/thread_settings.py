"""What torch keeps for each thread: as it was, if a step fails in the middle of changing it.

An interrupt may come while a context is entered or left (`no_grad`, a function mode, hooks on saved
tensors), and then nobody leaves it. Torch has no public way to see all of that; its private names
for it are used here alone.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch._C import _autograd, _len_torch_function_stack
from torch.overrides import _get_current_function_mode_stack, _pop_mode, _push_mode

from d2lpart.common.interrupts import uninterrupted


@contextmanager
def settings_kept(*repairs: Callable[[], None]) -> Iterator[None]:
    """Put this thread's settings back if the context fails, and call all `repairs`.

    The settings are the grad mode, autocast's cache, the number of threads, and the function modes
    and the hooks on saved tensors that were entered in the context.

    >>> try:
    ...     with settings_kept():
    ...         _ = torch.set_grad_enabled(False)
    ...         raise KeyboardInterrupt
    ... except KeyboardInterrupt:
    ...     print(torch.is_grad_enabled())
    True
    """
    graph, cache = torch.is_grad_enabled(), torch.is_autocast_cache_enabled()
    handled = sys.exception()  # by a caller, such as one that tries again after an interrupt
    number, hooks = torch.get_num_threads(), _top_hooks()
    modes = _get_current_function_mode_stack()
    try:
        yield
    except BaseException as error:
        with uninterrupted():
            while _len_torch_function_stack():
                _pop_mode()
            for mode in modes:
                _push_mode(mode)
            while _top_hooks() not in (hooks, None):
                _autograd._pop_saved_tensors_default_hooks()
            torch.set_grad_enabled(graph)
            torch.set_autocast_cache_enabled(cache)
            if torch.get_num_threads() != number:
                torch.set_num_threads(number)
            for repair in repairs:
                repair()
        if (interrupt := _behind(error, handled)) is not None:
            raise interrupt from None
        raise


def _behind(error: BaseException, handled: BaseException | None) -> BaseException | None:
    """Return the interrupt in whose wake something failed, so that it stays an interrupt."""
    before: BaseException | None = error
    while before is not handled and isinstance(before, (Exception, GeneratorExit)):
        before = before.__context__
    return None if before is error or before is handled else before


def _top_hooks() -> object:
    return _autograd._top_saved_tensors_default_hooks(True)
