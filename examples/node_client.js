const { Etcd3 } = require('etcd3');

async function main() {
  const client = new Etcd3({ hosts: 'http://127.0.0.1:2379' });

  await client.put('config/colour').value('green');
  console.log(await client.get('config/colour').string());

  const { succeeded } = await client
    .if('config/colour', 'Value', '==', 'green')
    .then(client.put('config/colour').value('blue'))
    .commit();
  console.log('changed:', succeeded);

  console.log(await client.getAll().prefix('config/').strings());
  client.close();
}

main();
