"""The one place that says which version this is; pyproject.toml reads it from here."""

VERSION = "0.1.0"
ETCD_SERVER = "3.5.1"
"""The etcd whose behaviour this version has, as those are told who ask for etcd's version."""
ETCD_CLUSTER = "3.5.0"
