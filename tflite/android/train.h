// What an app does with a file that trains.
#ifndef SPFDE_TFLITE_ANDROID_TRAIN_H_
#define SPFDE_TFLITE_ANDROID_TRAIN_H_

#include "options.h"

// Restores, trains, tests and saves, as far as `options` ask for it, and prints what came out.
// Throws std::runtime_error with one line.
void Train(const Options& options);

#endif  // SPFDE_TFLITE_ANDROID_TRAIN_H_
