import pyetcd

client = pyetcd.client(host="127.0.0.1", port=2379)

client.put("config/colour", "green")
value, metadata = client.get("config/colour")
print(value.decode(), "at revision", metadata.mod_revision)

changed, _ = client.transaction(
    compare=[client.transactions.value("config/colour") == "green"],
    success=[client.transactions.put("config/colour", "blue")],
    failure=[],
)
print("changed:", changed)

for value, metadata in client.get_prefix("config/"):
    print(metadata.key.decode(), "=", value.decode())
