from web_server import certificate, served

__all__ = ["certificate", "served"]
