// A day of training, as SpFDE does it: more and more front blocks are frozen, masks change, and
// samples that are easy rest for a while.
export const EPOCHS = 12;
const INTERVAL = 3;
const RATE = 0.05;
const SHARE = 0.2;

/** How many front blocks are frozen in an epoch: one more from the middle on, in each interval. */
export function frozenIn(epoch, stages) {
  return Math.min(stages, Math.max(0, Math.floor((epoch - EPOCHS / 2) / INTERVAL) + 1));
}

/** The learning rate of each block: a cosine over the epochs in which it is trained. */
export function ratesIn(epoch, blocks, stages) {
  return Array.from({ length: blocks }, (_, block) => {
    const epochs = Array.from({ length: EPOCHS }, (_, e) => e);
    const trained = epochs.filter((e) => frozenIn(e, stages) <= block);
    const done = trained.filter((e) => e < epoch).length;
    return (RATE * (1 + Math.cos((Math.PI * done) / trained.length))) / 2;
  });
}

/**
 * Trains a `Learner` on samples {pixels, label, id}, pixels as the net reads them.
 *
 * `noted` is called after each epoch with the number of frozen blocks, the mean loss, and the ids of
 * samples that were wrong, and of those that rest.
 */
export async function train(learner, samples, noted) {
  let resting = await learner.resting();
  for (let epoch = 0; epoch < EPOCHS; epoch++) {
    const frozen = frozenIn(epoch, learner.stages);
    const rate = ratesIn(epoch, learner.blocks, learner.stages);
    const active = shuffled(samples.filter(({ id }) => !resting.has(id)));
    const [wrong, losses] = [new Set(), []];
    for (let start = 0; start < active.length; start += learner.batch) {
      const batch = active.slice(start, start + learner.batch);
      // An update takes as many samples as the file says: the last batch takes some once more.
      for (let i = 0; batch.length < learner.batch; i++) batch.push(active[i % active.length]);
      const { loss, correct } = await learner.train(frozen, {
        x: batch.flatMap(({ pixels }) => pixels),
        y: batch.map(({ label }) => label),
        sample: batch.map(({ id }) => id),
        rate,
      });
      losses.push(loss);
      correct.forEach((right, i) => right || wrong.add(batch[i].id));
    }
    const done = epoch + 1;
    if (done % INTERVAL === 0 && done < EPOCHS) {
      await learner.sieve();
      resting = await learner.resting();
      await learner.mutate(frozen, SHARE * (1 - done / EPOCHS));
    }
    const loss = losses.reduce((a, b) => a + b) / losses.length;
    await noted({ done, frozen, wrong, resting, loss });
  }
}

function shuffled(values) {
  const result = [...values];
  for (let i = result.length - 1; i > 0; i--) {
    const other = Math.floor(Math.random() * (i + 1));
    [result[i], result[other]] = [result[other], result[i]];
  }
  return result;
}
