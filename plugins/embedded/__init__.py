"""The embedded domains: small data sets with classifiers, judges and trained pipelines that come with counterlens."""

from counterlens.core.plugin.hookspecs import hookimpl


@hookimpl
def counterlens_schemes():
    return {"data": {"domain": "an embedded domain"}, "classifier": {"domain": "a classifier of an embedded domain"}}


@hookimpl
def counterlens_domains():
    from counterlens.plugins.embedded.domains import Digits, Shapes

    return [Shapes, Digits]


@hookimpl
def counterlens_open_classifier(uri, device):
    if not uri.strip().startswith("domain:"):
        return None
    from counterlens.plugins.embedded.classifiers import open_domain

    return open_domain(uri, device)
