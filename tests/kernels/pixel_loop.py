"""The oracle: a plain loop over output pixels in NumPy float64, forward and every gradient written out."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tests.kernels.cases import Problem


class Answer(NamedTuple):
    output: Tensor
    input: Tensor
    region_filters: Tensor
    guided_feature: Tensor
    bias: Tensor


def region_of(scores: np.ndarray) -> int:
    """First NaN if there is one, else the first of the largest."""
    for j, score in enumerate(scores):
        if np.isnan(score):
            return j
    best = 0
    for j, score in enumerate(scores):
        if score > scores[best]:
            best = j
    return best


def pixel_loop(problem: Problem) -> Answer:
    case = problem.case
    tensors = (problem.input, problem.region_filters, problem.guided_feature, problem.bias, problem.grad_output)
    x, w, f, bias, g = (t.detach().double().numpy() for t in tensors)
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = case.kernel, case.stride, case.padding, case.dilation
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    y, grad_padded, grad_w, grad_f = np.zeros_like(g), np.zeros_like(padded), np.zeros_like(w), np.zeros_like(f)
    per_in, per_out = case.channels // case.groups, case.out_channels // case.groups
    for b in range(case.batch):
        filters, grad_filters = (w, grad_w) if case.shared else (w[b], grad_w[b])
        for u in range(g.shape[2]):
            for v in range(g.shape[3]):
                rows = slice(u * sh, u * sh + dh * (kh - 1) + 1, dh)
                columns = slice(v * sw, v * sw + dw * (kw - 1) + 1, dw)
                scores = f[b, :, u, v]
                region = region_of(scores)
                products = np.zeros(case.regions)
                for group in range(case.groups):
                    ins = slice(group * per_in, (group + 1) * per_in)
                    outs = slice(group * per_out, (group + 1) * per_out)
                    patch, grad = padded[b, ins, rows, columns], g[b, outs, u, v]
                    results = np.einsum("mocij,cij->mo", filters[:, outs], patch)
                    y[b, outs, u, v] = results[region] + bias[outs]
                    grad_padded[b, ins, rows, columns] += np.einsum("ocij,o->cij", filters[region, outs], grad)
                    grad_filters[region, outs] += np.einsum("o,cij->ocij", grad, patch)
                    products += results @ grad
                shifted = np.exp(scores - scores.max())
                p = shifted / shifted.sum()
                grad_f[b, :, u, v] = p * (products - (p * products).sum())
    height, width = case.size
    grad_x = grad_padded[:, :, ph : ph + height, pw : pw + width]
    answers = (y, grad_x, grad_w, grad_f, g.sum((0, 2, 3)))
    return Answer(*(torch.from_numpy(np.ascontiguousarray(a)) for a in answers))
