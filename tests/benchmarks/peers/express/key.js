let fetched;

export function signingKey() {
  fetched ??= fetchKey();
  return fetched;
}

async function fetchKey() {
  // Slow to load, and most requests need no key.
  const { GetSecretValueCommand, SecretsManagerClient } = await import("@aws-sdk/client-secrets-manager");
  const client = new SecretsManagerClient({});
  const secret = await client.send(new GetSecretValueCommand({ SecretId: process.env.TOKEN_KEYS_SECRET_ID }));
  const { current, keys } = JSON.parse(secret.SecretString);
  return { id: current, key: Buffer.from(keys[current], "base64") };
}
