"""Settings: one validated, frozen model per process, from a YAML file and the environment."""

from fedn_py.settings.faults import InvalidSettings, SettingFault
from fedn_py.settings.fields import split_address
from fedn_py.settings.loading import Setting, explain_settings, load_settings
from fedn_py.settings.roles import (
    ROLES,
    CertificateSettings,
    ClientSettings,
    CombinerSettings,
    LimitSettings,
    LoggingSettings,
    MaskingSettings,
    MinIOSettings,
    MongoDBSettings,
    ReducerCertificateSettings,
    ReducerSettings,
    SpoolSettings,
)

__all__ = [
    "ROLES",
    "CertificateSettings",
    "ClientSettings",
    "CombinerSettings",
    "InvalidSettings",
    "LimitSettings",
    "LoggingSettings",
    "MaskingSettings",
    "MinIOSettings",
    "MongoDBSettings",
    "ReducerCertificateSettings",
    "ReducerSettings",
    "Setting",
    "SettingFault",
    "SpoolSettings",
    "explain_settings",
    "load_settings",
    "split_address",
]
