"""TLS through the URL. The bundled server has none, so a relay that speaks TLS stands in front of it."""

import asyncio
import datetime as dt
import ipaddress
import ssl
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from prefixcache_integrations.errors import StoreUnavailable
from prefixcache_integrations.stores import open_store
from tests.stores.contract import KEY


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """The path of a certificate for 127.0.0.1, signed by itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + made.public_bytes(serialization.Encoding.PEM)
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    path.write_bytes(text)
    return path


@pytest.fixture
def tls_port(start_redis, certificate):
    """The port of a relay that decrypts and hands on to a Redis server."""
    port = start_redis().port
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    loop, opened, tasks = asyncio.new_event_loop(), [], set()

    async def pass_on(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def relay(reader, writer):
        tasks.add(asyncio.current_task())
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pass_on(reader, inner_writer), pass_on(inner_reader, writer), return_exceptions=True)
        for each in (writer, inner_writer):
            each.close()

    async def listen():
        opened.append(await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context))

    async def stop():
        opened[0].close()
        await asyncio.gather(*tasks)

    loop.run_until_complete(listen())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield opened[0].sockets[0].getsockname()[1]
    asyncio.run_coroutine_threadsafe(stop(), loop).result(5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)
    loop.close()


def test_a_server_with_a_known_certificate_is_used_by_both_faces(tls_port, certificate):
    store = open_store(f"rediss://127.0.0.1:{tls_port}/0?timeout=2&ssl_ca_certs={certificate}")
    store.put(KEY, b"answer")
    assert store.get(KEY) == b"answer"
    assert asyncio.run(store.aget(KEY)) == b"answer"
    store.close()


def test_a_server_with_an_unknown_certificate_is_not(tls_port):
    store = open_store(f"rediss://127.0.0.1:{tls_port}/0?timeout=2")
    with pytest.raises(StoreUnavailable):
        store.get(KEY)
    store.close()
