"""``--discovery-srv``: the endpoints that SRV records name. Source: etcdctl ``command/global.go``."""

import asyncio
import os
import sys

from kvorum.ctl.errors import EXIT_ERROR, CtlError


def discovered_endpoints(domain: str, service_name: str, insecure: bool) -> list[str]:
    """Return the URLs of a domain's endpoints; those without TLS only if ``insecure``.

    Raises:
        CtlError: there are no records.
    """
    from kvorum.discovery import srv  # with a library for DNS, which no other command needs

    try:
        names = srv.Resolver(os.environ)
        found = asyncio.run(srv.client_endpoints(names, domain, service_name))
    except srv.LookupFailedError as error:
        raise CtlError(EXIT_ERROR, str(error)) from None
    endpoints = []
    for endpoint in found:
        if endpoint.startswith("http://") and not insecure:
            sys.stderr.write(f'ignoring discovered insecure endpoint "{endpoint}"\n')
        else:
            endpoints.append(endpoint.replace(".:", ":"))  # the C library's hosts have no dot at their end
    return endpoints
