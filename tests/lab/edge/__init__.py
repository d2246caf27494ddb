"""The stand-in for the CDN: its control API in front of real Varnish instances, the POPs."""
