"""One-to-one matching of edge pixels within a tolerance: as many pairs as there can be."""

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow

from .greedy import Frame, as_maps, pair_greedily

CHUNK = 4096
"""Pixels whose surroundings are looked up at once; bounds the memory."""


def count_exact_matches(pred: np.ndarray, target: np.ndarray, radius: float) -> int:
    """Return the largest number of pairs that a one-to-one matching within ``radius`` can have.

    This is the number that the BSDS benchmark (Martin et al., 2004) is after. Its ``correspondPixels`` looks for the
    assignment of least cost, in which a pair costs its distance, and one pair less costs 100 times ``radius``. One pair
    more lengthens the others by ``radius`` each at most, so the assignment of least cost has the largest number of
    pairs unless that takes a chain of more than 100 re-pairings. (The program offers each pixel only a few places,
    drawn at random, where it may be left over; it therefore finds slightly fewer pairs, see docs/evaluation.md.)

    The greedy matching comes first; what it left out is found as a maximum flow (Dinic's algorithm) from the free
    pixels of one map, over chains of re-pairings, to those of the other.

    Args:
        pred: Boolean map ``(H, W)``.
        target: Boolean map of the same shape.
        radius: Largest distance in pixels.

    Raises:
        ValueError: If the shapes differ.
    """
    pred, target = as_maps(pred, target)
    # The count is symmetric; from the map with fewer pixels there is less to look up.
    few, many = (pred, target) if np.count_nonzero(pred) <= np.count_nonzero(target) else (target, pred)
    frame = Frame(few.shape, radius)
    sources, partners = pair_greedily(frame, few, many)
    here, there = np.flatnonzero(frame.framed(few)), np.flatnonzero(frame.framed(many))
    if len(sources) == len(here):
        return len(sources)
    number = np.full((few.shape[0] + 2 * frame.margin) * frame.width, -1, dtype=np.int32)
    number[there] = np.arange(len(there))
    partner = np.full(len(here), -1, dtype=np.int32)
    partner[np.searchsorted(here, sources)] = number[partners]
    return len(sources) + _augmentations(*_pairs(here, number, frame), partner, len(there))


def _pairs(here: np.ndarray, number: np.ndarray, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Return all pairs within the radius as (index into ``here``, number of the other pixel)."""
    steps = np.array(frame.steps)
    rows, columns = [], []
    for start in range(0, len(here), CHUNK):
        near = number[here[start : start + CHUNK, None] + steps]
        row, place = np.nonzero(near >= 0)
        rows.append((row + start).astype(np.int32))
        columns.append(near[row, place])
    return np.concatenate(rows), np.concatenate(columns)


def _augmentations(rows: np.ndarray, columns: np.ndarray, partner: np.ndarray, num_columns: int) -> int:
    """Return by how many pairs a one-to-one matching can grow.

    Args:
        rows: First ends of the allowed pairs.
        columns: Second ends of the allowed pairs.
        partner: Second end matched with each first end, -1 for none.
        num_columns: Number of second ends.
    """
    matched = np.flatnonzero(partner >= 0).astype(np.int32)
    free_rows = np.flatnonzero(partner < 0).astype(np.int32)
    free_columns = np.setdiff1d(np.arange(num_columns, dtype=np.int32), partner[matched], assume_unique=True)
    # Nodes: first ends, second ends, source, sink. An arc says that flow may pass: unmatched pairs forwards, matched
    # pairs backwards. Every inner node has one arc in or one arc out, so no end is used twice.
    first = len(partner)
    source, sink = first + num_columns, first + num_columns + 1
    unmatched = partner[rows] != columns
    tails = [rows[unmatched], first + partner[matched], np.full_like(free_rows, source), first + free_columns]
    heads = [first + columns[unmatched], matched, free_rows, np.full_like(free_columns, sink)]
    tail, head = np.concatenate(tails), np.concatenate(heads)
    capacity = csr_array((np.ones(len(tail), dtype=np.int32), (tail, head)), shape=(sink + 1, sink + 1))
    return int(maximum_flow(capacity, source, sink, method='dinic').flow_value)
