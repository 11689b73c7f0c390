"""From stored images to training batches (`keras_siamim.batch` names what a batch holds).

`draws`, `geometry` and `masking` are NumPy alone; the rest needs TensorFlow, whose `tf.data` feeds every backend.
"""
