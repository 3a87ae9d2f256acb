"""Writes all that is made from code and catalogs: dashboards and alert rules. `python -m deploy`."""

from __future__ import annotations

from deploy.catalogs import catalogs
from deploy.grafana import mission, overview, panels
from deploy.prometheus import product_alerts

if __name__ == "__main__":
    overview.FILE.write_text(panels.rendered(overview.overview()), encoding="utf-8")
    for product, catalog in catalogs().items():
        mission.file_of(product).write_text(mission.text_of(catalog), encoding="utf-8")
        product_alerts.file_of(product).write_text(product_alerts.rendered(catalog), encoding="utf-8")
