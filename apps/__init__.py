"""Programs: `spfde NAME`, or in the repository `python -m apps NAME` or `python -m apps.NAME`.

`spfde --help` lists them. An installed package has this one as `spfde_apps`.
"""

from . import quiet  # noqa: F401
