/** dev/test.ts runs jest with this, and starts the servers that the tests share. */
const LONG = { long: '<rootDir>/test/long/', deploy: '<rootDir>/test/deploy-long/' };
const folder = LONG[process.env.CHAMBERLAIN_TESTS];

export default {
  runner: '<rootDir>/dev/jest/runner.ts',
  testMatch: [`${folder ?? '<rootDir>/test/'}**/*.test.ts`],
  testPathIgnorePatterns: folder === undefined ? Object.values(LONG) : [],
  modulePathIgnorePatterns: ['<rootDir>/dist/', '<rootDir>/.stack/'],
  transform: {}, // Node strips the types itself
  maxWorkers: 4, // on two cores too: most of the time a suite waits
  testTimeout: 120_000, // ends what hangs; a busy machine is slow
};
