"""Sphinx settings: `make docs` builds docs/_build/html, offline, with warnings as errors."""

import inspect
import re
import warnings

# mmcv, which comes without compiled operators, says so when mmseg.models is imported.
warnings.filterwarnings('ignore', message='Fail to import ``MultiScaleDeformableAttention``')

from sphinx.util.inspect import stringify_signature  # noqa: E402

from mtl_plugins import __version__  # noqa: E402
from mtl_plugins.utils.argument_types import Checked  # noqa: E402

project = 'mtl_plugins'
author = 'The mtl_plugins authors'
copyright = author
version = release = __version__

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.viewcode']
exclude_patterns = ['_build']
root_doc = 'index'

# MyST: links to headings as GitHub makes them, notes as ":::{note}", HTML comments that tell the tests what to do, and
# <img> tags with a width, as reports have them.
myst_enable_extensions = ['colon_fence', 'deflist', 'html_image']
myst_heading_anchors = 4

# The API pages name every class themselves; tests/docs/test_site.py sees to it that none is forgotten.
autodoc_default_options = {'members': True, 'show-inheritance': True}
autodoc_member_order = 'bysource'
autodoc_typehints_format = 'short'
autoclass_content = 'class'
add_module_names = False
python_maximum_signature_line_length = 100
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
viewcode_line_numbers = True

html_theme = 'furo'
html_title = f'mtl_plugins {release}'
html_copy_source = False
html_show_sphinx = False
# Quiet colours; nothing is fetched from elsewhere.
html_theme_options = {
    'light_css_variables': {'color-brand-primary': '#1f5f8b', 'color-brand-content': '#1f5f8b'},
    'dark_css_variables': {'color-brand-primary': '#8ec5e8', 'color-brand-content': '#8ec5e8'},
}


def _escape_bars(app, what, name, obj, options, lines):
    """Norms such as |g| are no substitutions of reStructuredText; ``literals`` and formulas stay as they are."""
    parts = re.split(r'(``.*?``|:\w+:`[^`]*`)', '\n'.join(lines), flags=re.DOTALL)
    parts[::2] = [re.sub(r'(?<!\\)\|', r'\\|', part) for part in parts[::2]]
    lines[:] = ''.join(parts).split('\n')


def _signature_of_class(app, what, name, obj, options, signature, return_annotation):
    """``__init__`` as it is written; of :class:`Checked` Sphinx would show ``__new__``, which takes any arguments."""
    if what != 'class' or not issubclass(obj, Checked):
        return None
    if not inspect.isfunction(obj.__init__):
        return '', None
    _, *parameters = inspect.signature(obj.__init__).parameters.values()
    return stringify_signature(inspect.Signature(parameters)), None


def setup(app):
    """Called by Sphinx."""
    # Napoleon's part in choosing members is about private ones, which are not shown; it fails for those that mmcv's
    # ``cache_randomness`` wraps, which cannot be read from the class.
    for listener in list(app.events.listeners['autodoc-skip-member']):
        if listener.handler.__module__ == 'sphinx.ext.napoleon':
            app.disconnect(listener.id)
    # Before napoleon, which turns Google sections into fields.
    app.connect('autodoc-process-docstring', _escape_bars, priority=400)
    app.connect('autodoc-process-signature', _signature_of_class)
