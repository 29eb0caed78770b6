# Programs that bring a bundle of their own are pointed to the guest's, which holds the site's root.
if [ -r /etc/ssl/certs/ca-certificates.crt ]; then
    export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
    export REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt
    export GRPC_DEFAULT_SSL_ROOTS_FILE_PATH=/etc/ssl/certs/ca-certificates.crt
fi
if [ -r /opt/phoenix/current/trust/root.crt ]; then
    export NODE_EXTRA_CA_CERTS=/opt/phoenix/current/trust/root.crt
fi
