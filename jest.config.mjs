/** dev/test.ts runs jest with this, and starts the servers that the tests share. */
const long = process.env.CHAMBERLAIN_TESTS === 'long';

export default {
  runner: '<rootDir>/dev/jest/runner.ts',
  testMatch: [long ? '<rootDir>/test/long/**/*.test.ts' : '<rootDir>/test/**/*.test.ts'],
  testPathIgnorePatterns: long ? [] : ['<rootDir>/test/long/'],
  modulePathIgnorePatterns: ['<rootDir>/dist/', '<rootDir>/.stack/'],
  transform: {}, // Node strips the types itself
  maxWorkers: 4, // on two cores too: most of the time a suite waits
  testTimeout: 120_000, // ends what hangs; a busy machine is slow
};
