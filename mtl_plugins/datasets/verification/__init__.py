"""Verification of dataset folders: layout, counts, content of every file, and hashes to compare with later."""

from mtl_plugins.methods.exports import on_demand

__getattr__, __all__ = on_demand(
    __name__,
    {
        'base': 'REMEDIES CheckJob LayoutCheck LazyJobs Problem get_layout_check layout_check_names make_problem',
        'files': 'check_decodes check_file check_ids check_jpeg check_npy check_png check_size check_target',
        'manifest': 'Manifest ManifestError load_manifest save_manifest',
        'report': 'Report',
        'runner': 'Verification VerificationError verify',
    },
)
