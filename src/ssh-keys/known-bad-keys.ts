/**
 * Fingerprints of public keys whose private halves are published, for the types and sizes that would otherwise be
 * accepted. The configuration may add more. Sources: hashicorp/vagrant (keys/) and rapid7/ssh-badkeys.
 */
export const KNOWN_BAD_KEYS: ReadonlyMap<string, string> = new Map([
  ['SHA256:1M4RzhMyWuFS/86uPY/ce2prh/dVTHW7iD2RhpquOZA', "Vagrant's insecure key (RSA)"],
  ['SHA256:WkvqjnyPAeC0cbPErYiGP9vqHdgL1MqqvPdIe3lvHgI', "Vagrant's insecure key (Ed25519)"],
  ['SHA256:WtRSB8XG5R0LFE1KvRKV7sa2pTCQBpbVm8W7QLbCb5A', 'the key of Seagate GoFlex devices'],
  ['SHA256:AKABay46vBa2bhMYZU2V/z5uqlAUXcuBTxMkW4MHd9s', 'the key of Westermo MRD-310 devices'],
  ['SHA256:zaEfS0zzZ4DyGf0BjXPPkEi+6puzJs73EkbEm3XSSqU', 'the key of Zyxel FSG2200 devices'],
  ['SHA256:fKki+o9MyIk8XUThmRfoejJudcef7mGvkooMCBLyqCM', 'the key of Advantech EKI devices'],
  [
    'SHA256:4REJomy/ZbGbLVcbZzR/i6CQuzF+EI6DMvu/lHCxh4M',
    'the key of a Kali image for Raspberry Pi 2',
  ],
]);
