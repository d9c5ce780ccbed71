import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import mtl_plugins.methods

FOLDER = Path(mtl_plugins.methods.__file__).parent
STACK = ('mmengine', 'mmcv', 'mmseg')


def test_imports_without_the_openmmlab_stack_and_trains_a_group():
    code = f"""
        import sys, warnings

        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.split('.')[0] in {STACK!r}:
                    raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)

        sys.meta_path.insert(0, Blocker())
        warnings.simplefilter('ignore')
        import torch
        from mtl_plugins.methods import PositiveAffinity, ProximalAffinity
        assert 'scipy' not in sys.modules  # which takes as long as all the rest, and few methods need it
        affinity = ProximalAffinity(2, decay=0.5)
        affinity.observe([0], torch.tensor([2.0, 2.0]), torch.tensor([1.0, 1.0]))
        affinity.observe([1], torch.tensor([2.0, 2.0]), torch.tensor([1.0, 1.0]))
        assert PositiveAffinity()(affinity.matrix, torch.Generator()) == [[0, 1]]
        assert not [name for name in sys.modules if name.split('.')[0] in {STACK!r}]
        print('done')
    """
    result = subprocess.run([sys.executable, '-c', textwrap.dedent(code)], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == 'done'


def test_no_module_of_the_methods_imports_a_trainer_or_another_part_of_the_package():
    forbidden = {*STACK, 'torchvision', 'timm', 'cv2'}
    for path in FOLDER.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            else:
                continue
            for name in names:
                assert name.split('.')[0] not in forbidden, f'{path.name} imports {name}'
                assert not name.startswith('mtl_plugins') or name.startswith('mtl_plugins.methods'), path.name
                assert not name.startswith('torch.distributed'), path.name
