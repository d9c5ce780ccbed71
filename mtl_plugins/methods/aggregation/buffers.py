"""A row of memory per task."""

import torch
from torch import Tensor


class TaskBuffer:
    """Tensor of shape (number of tasks, D) that comes into being at first use: 4 K D bytes for float32 rows.

    Args:
        owner: Class name for the messages.
    """

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.data: Tensor | None = None

    def rows_for(self, num_tasks: int, G: Tensor) -> Tensor:
        """Return the buffer, on the device of ``G``, at least in float32, and never narrower than before.

        Raises:
            ValueError: If the buffer has another shape, for example because parameters were frozen since.
        """
        shape = (num_tasks, G.shape[1])
        dtype = torch.promote_types(G.dtype, torch.float32)
        if self.data is None:
            self.data = torch.zeros(shape, dtype=dtype, device=G.device)
        if self.data.shape != shape:
            raise ValueError(
                f'{self.owner}: its buffer of earlier gradients has shape {tuple(self.data.shape)}, but there are '
                f'{num_tasks} tasks and rows of length {G.shape[1]} now; start with a fresh state'
            )
        self.data = self.data.to(G.device, torch.promote_types(dtype, self.data.dtype))
        return self.data
