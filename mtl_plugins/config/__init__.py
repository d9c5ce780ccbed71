"""From a config file to a Runner: reading, options over it, and what is refused before anything is built."""

from mtl_plugins.methods.exports import on_demand

__getattr__, __all__ = on_demand(
    __name__,
    {
        'loading': 'load_config set_method set_tasks',
        'runner': 'build_runner',
    },
)
