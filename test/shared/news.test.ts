import { expect, test } from '@jest/globals';
import { openNews } from '../../src/shared/news.ts';

test('the same text about the same thing is news once, and again after ten minutes', () => {
  let now = 0;
  const news = openNews<number>(() => now);
  expect(news.isNew(1, 'away')).toBe(true);
  expect(news.isNew(1, 'away')).toBe(false);
  expect(news.isNew(2, 'away')).toBe(true);
  expect(news.isNew(1, 'refused')).toBe(true);
  now = 600_000;
  expect(news.isNew(1, 'refused')).toBe(true);
  expect(news.isNew(1, 'refused')).toBe(false);
});

test('what is forgotten is news again', () => {
  const news = openNews<string>();
  news.isNew('a', 'away');
  news.forget('a');
  expect(news.isNew('a', 'away')).toBe(true);
});
