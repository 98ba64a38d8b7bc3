/** dev/test.ts runs jest with this, and starts the servers that the tests share. */
const DEPLOY = '<rootDir>/test/deploy-long/';
const PLAIN = {
  testMatch: ['<rootDir>/test/**/*.test.ts'],
  testPathIgnorePatterns: [DEPLOY, '\\.long\\.test\\.ts$'],
};
const OTHERS = {
  long: { testMatch: ['<rootDir>/test/**/*.long.test.ts'], testPathIgnorePatterns: [DEPLOY] },
  // each wait in them has a limit of its own (patience.ts), and a machine is made in minutes
  deploy: { testMatch: [`${DEPLOY}**/*.test.ts`], testTimeout: 3_600_000 },
};

export default {
  runner: '<rootDir>/dev/jest/runner.ts',
  modulePathIgnorePatterns: ['<rootDir>/dist/', '<rootDir>/.stack/'],
  transform: {}, // Node strips the types itself
  maxWorkers: 4, // on two cores too: most of the time a suite waits
  testTimeout: 240_000, // ends what hangs; a busy machine is slow
  ...(OTHERS[process.env.CHAMBERLAIN_TESTS] ?? PLAIN),
};
