/** dev/test.ts runs jest with this, and starts the servers that the tests share. */
const DEPLOY = '<rootDir>/test/deploy-long/';
const PLAIN = {
  testMatch: ['<rootDir>/test/**/*.test.ts'],
  testPathIgnorePatterns: [DEPLOY, '\\.long\\.test\\.ts$'],
};
const OTHERS = {
  long: { testMatch: ['<rootDir>/test/**/*.long.test.ts'], testPathIgnorePatterns: [DEPLOY] },
  deploy: { testMatch: [`${DEPLOY}**/*.test.ts`] },
};

export default {
  runner: '<rootDir>/dev/jest/runner.ts',
  ...(OTHERS[process.env.CHAMBERLAIN_TESTS] ?? PLAIN),
  modulePathIgnorePatterns: ['<rootDir>/dist/', '<rootDir>/.stack/'],
  transform: {}, // Node strips the types itself
  maxWorkers: 4, // on two cores too: most of the time a suite waits
  testTimeout: 120_000, // ends what hangs; a busy machine is slow
};
