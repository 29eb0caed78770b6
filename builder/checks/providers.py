"""The DNS providers that the pinned lego (4.9.1) knows, by `lego dnshelp`; a test asks it.

`manual` is not among them: it waits for a person.
"""

from __future__ import annotations

_LISTED = """
acme-dns alidns allinkl arvancloud auroradns autodns azure bindman bluecat checkdomain civo
clouddns cloudflare cloudns cloudxns conoha constellix desec designate digitalocean dnsimple
dnsmadeeasy dnspod dode domeneshop dreamhost duckdns dyn dynu easydns edgedns epik exec
exoscale freemyip gandi gandiv5 gcloud gcore glesys godaddy hetzner hostingde hosttech
httpreq hurricane hyperone ibmcloud iij iijdpf infoblox infomaniak internetbs inwx ionos
iwantmyname joker lightsail linode liquidweb loopia luadns mydnsjp mythicbeasts namecheap
namedotcom namesilo nearlyfreespeech netcup netlify nicmanager nifcloud njalla ns1
oraclecloud otc ovh pdns porkbun rackspace regru rfc2136 rimuhosting route53 safedns
sakuracloud scaleway selectel servercow simply sonic stackpath tencentcloud transip
variomedia vegadns vercel versio vinyldns vkcloud vscale vultr wedos yandex yandexcloud
zoneee zonomi
"""
PROVIDERS = frozenset(_LISTED.split())
