// fhir-kit-client: the capability statement, and one message. Arguments: the FHIR base, a file with a message.
import { readFile } from 'node:fs/promises';
import { Client } from 'fhir-kit-client';

const [base, path] = process.argv.slice(2);
const client = new Client({ baseUrl: base });
const statement = await client.capabilityStatement();
console.log('version', statement.fhirVersion);
const text = (await readFile(path, 'utf8')).replaceAll('PLACEHOLDER', 'fhir-kit-1');
const answer = await client.operation({ name: 'process-message', method: 'POST', input: JSON.parse(text) });
console.log('answer', answer.entry[0].resource.response.code);
