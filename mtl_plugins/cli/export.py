"""Export from the command line: ``tools/export.py`` and ``python -m mtl_plugins export``."""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtl_plugins.export import FORMATS, ExportedTasks, compare_with_file, export_program, save_program
from mtl_plugins.export.verification import TOLERANCE, can_run
from mtl_plugins.inference.files import frame_in_words
from mtl_plugins.inference.loading import find_config, load_model, size_divisor
from mtl_plugins.inference.sizes import Size, round_up, training_size
from mtl_plugins.runtime.checkpoints import safe_loading, write_atomically
from mtl_plugins.task_specs import get_task_specs

from .parsers import command

VALUES = dict(
    classes='class index, int64',
    binary='probability 0..1, float32',
    depth='metres, float32',
    normals='unit vectors ({frame}), float32',
    regression='as in the training data, float32',
)


@command
def main(parser: ArgumentParser, args: Namespace) -> int:
    """Export and check; returns the exit code."""
    path = Path(args.out)
    kind = args.format or path.suffix.removeprefix('.')
    if kind not in FORMATS:
        parser.error(f'--format is needed: the suffix of {path} is none of {", ".join(FORMATS)}')
    cfg = find_config(args.config, args.cfg_options)
    with safe_loading(args.trust_checkpoint):
        model, meta = load_model(cfg, args.checkpoint, tasks=args.tasks)
    size = args.size or training_size(cfg)
    if size is None:
        parser.error('--size H W is needed: the config does not tell the size of the training images')
    size = tuple(args.size) if args.size else round_up(size, size_divisor(model))
    module = ExportedTasks(model, size, args.tasks, decoded=not args.raw)
    save_program(export_program(module), module.tasks, path, kind)
    about = path.with_name(f'{path.name}.json')
    write_atomically((json.dumps(describe(module, meta, size), indent=1) + '\n').encode(), about)
    print(f'{path} ({path.stat().st_size / 1e6:.1f} MB) and {about}')
    if not can_run(kind):
        print('not checked: onnxruntime is not installed (pip install "mtl-plugins[export]")')
        return 0
    return _check(compare_with_file(model, path, kind, size, not args.raw), path)


def describe(module: ExportedTasks, meta: Mapping[str, Any], size: Size) -> dict[str, Any]:
    """What goes in and what comes out, for the JSON beside the file."""
    classes = meta.get('classes') or {}
    outputs = {}
    for spec in get_task_specs(module.tasks):
        values = VALUES[spec.kind].format(frame=frame_in_words(spec, meta)) if module.decoded else 'raw output, float32'
        names = {'classes': [*classes[spec.key]]} if spec.key in classes else {}
        outputs[spec.key] = dict(title=spec.title, kind=spec.kind, shape='(N, C, H, W)', values=values, **names)
    image = dict(shape=['N', 3, *size], dtype='float32', colours='RGB', range=[0, 255])
    return dict(version=1, inputs=dict(image=image), outputs=outputs)


def _check(worst: Mapping[str, float], path: Path) -> int:
    print('largest difference from PyTorch, relative to the raw output:')
    for task, value in worst.items():
        print(f'  {task:20} {value:.1e}')
    wrong = [task for task, value in worst.items() if not value <= TOLERANCE]
    if wrong:
        print(f'{path} does NOT agree with PyTorch to {TOLERANCE:g}: {", ".join(wrong)}. Do not use it')
        return 1
    print(f'agrees to {TOLERANCE:g}')
    return 0
