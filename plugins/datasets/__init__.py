"""Data by URI: ``folder:DIR``."""

from counterlens.core.hookspecs import hookimpl
from counterlens.core.uri import parse

DATA_SCHEMES = ("folder",)


@hookimpl
def counterlens_open_dataset(uri):
    where = parse(uri)
    if where.scheme != "folder":
        return None
    from counterlens.plugins.datasets.folder import Folder

    return Folder.open(where)
